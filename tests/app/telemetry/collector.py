"""What an OpenTelemetry collector is to a client: takes spans over HTTP, and keeps them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has come.

    Attributes:
        spans: by name, in the order they came.
        resource: of the service that sent them.
        asked: set once somebody has asked.
        held: requests wait for it before they are answered; set unless told otherwise.
    """

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        self.resource: dict[str, str] = {}
        self.asked = threading.Event()
        self.held = threading.Event()
        self.held.set()
        self.url = ""

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource_spans in request.resource_spans:
            for attribute in resource_spans.resource.attributes:
                self.resource[attribute.key] = attribute.value.string_value
            for scope in resource_spans.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.name, []).append(span)


@contextmanager
def collect() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.asked.set()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.held.wait()
            assert self.path == "/v1/traces"
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield collector
        finally:
            collector.held.set()
            server.shutdown()
            thread.join()
