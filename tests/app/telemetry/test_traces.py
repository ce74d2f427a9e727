from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from app.api.application import create_app
from app.api.parts import get_parts
from app.settings import Settings
from app.telemetry.access_log import ACCESS
from app.telemetry.traces import Traces, create_provider, create_traces
from tests.app.telemetry.collector import collect
from tests.conftest import LiveServer, serve

NOBODY = "http://127.0.0.1:9"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ASKED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Traced:
    """A server whose spans are kept in memory."""

    def __init__(self, server: LiveServer, exporter: InMemorySpanExporter) -> None:
        self.server = server
        self._exporter = exporter

    def ask(self, path: str, **request: Any) -> httpx2.Response:
        self._exporter.clear()
        return httpx2.post(f"{self.server.url}{path}", **request)

    def spans(self) -> dict[str, list[ReadableSpan]]:
        """By name, once the request has ended."""
        self.server.wait_for(lambda: self.server.metric("mobilenet_in_flight_requests") == 0)
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = create_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.api.application.create_traces", lambda: Traces(provider))
            server = stack.enter_context(serve())
        yield Traced(server, exporter)


def context_of(span: ReadableSpan) -> Any:
    assert span.context
    return span.context


def test_a_request_has_a_span_for_each_stage_in_the_trace_of_who_asks(
    traced: Traced, cat: bytes
) -> None:
    answer = traced.ask("/classify", files={"file": cat}, headers=ASKED)
    spans = traced.spans()
    (request,) = spans["POST /classify"]
    assert f"{context_of(request).trace_id:032x}" == TRACE
    assert request.parent
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes
    assert request.attributes["http.response.status_code"] == 200
    assert answer.headers["traceparent"] == (f"00-{TRACE}-{context_of(request).span_id:016x}-01")
    stages = [spans[name][0] for name in ("decode", "queue", "inference")]
    assert request.start_time
    assert request.end_time
    # Between readings of the two clocks a busy machine may rest, but not longer than all took.
    margin = request.end_time - request.start_time
    timing = answer.json()["timing_ms"]
    for stage in stages:
        assert stage.parent
        assert stage.parent.span_id == context_of(request).span_id
        assert stage.start_time is not None
        assert stage.end_time is not None
        assert stage.start_time >= request.start_time - margin
        assert stage.end_time <= request.end_time + margin
        taken_ms = (stage.end_time - stage.start_time) / 1e6
        assert 0 <= taken_ms <= timing[stage.name] + 0.01
        if stage.name != "queue":  # whose time has the wait for a decode thread in it, too
            assert taken_ms == pytest.approx(timing[stage.name], abs=0.01)
    attributes = stages[0].attributes
    assert attributes
    assert (attributes["mobilenet.format"], attributes["mobilenet.width"]) == ("jpeg", 451)


def test_a_requests_log_line_names_its_trace(
    traced: Traced, cat: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ACCESS)
    traced.ask("/classify", files={"file": cat}, headers=ASKED)
    traced.spans()
    (line,) = [
        vars(record) for record in caplog.records if record.name == ACCESS and record.args == ()
    ]
    assert (line["path"], line["trace_id"]) == ("/classify", TRACE)


def test_a_batch_is_a_trace_of_its_own_linked_with_its_requests_both_ways(
    traced: Traced, coffee: bytes, cat: bytes
) -> None:
    files = [("file", coffee), ("file", cat)]
    traced.ask("/classify/batch", files=files, headers=ASKED)
    spans = traced.spans()
    (request,) = spans["POST /classify/batch"]
    batches = {context_of(batch).span_id: batch for batch in spans["batch"]}
    for batch in batches.values():
        assert batch.parent is None
        assert {link.context.span_id for link in batch.links} == {context_of(request).span_id}
    linked = [link.context.span_id for stage in spans["inference"] for link in stage.links]
    assert len(linked) == 2
    assert set(linked) == set(batches)


def test_a_batch_of_many_requests_links_to_each_that_is_traced() -> None:
    exporter = InMemorySpanExporter()
    provider = create_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    asked = [SpanContext(number, number, is_remote=False) for number in (1, 2)]
    with Traces(provider).batch([asked[0], None, asked[1]]) as span:
        pass
    (batch,) = exporter.get_finished_spans()
    assert [link.context for link in batch.links] == asked
    assert batch.attributes == {"mobilenet.batch_size": 3}
    assert span == context_of(batch)


def test_a_query_and_a_failed_image_are_not_told(traced: Traced) -> None:
    secret = "abracadabra"  # noqa: S105  # a word to look for
    answer = traced.ask(f"/classify?key={secret}", content=secret.encode(), headers={"X": secret})
    assert answer.status_code == 422
    spans = traced.spans()
    (request,) = spans["POST /classify"]
    assert secret not in request.to_json()
    assert set(spans) == {"POST /classify"}


def test_who_is_not_sampled_has_no_batch_span_and_no_header(traced: Traced, cat: bytes) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    answer = traced.ask("/classify", files={"file": cat}, headers=headers)
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers
    assert traced.spans() == {}


def test_probes_have_no_spans(traced: Traced) -> None:
    traced.ask("/livez")
    httpx2.get(f"{traced.server.url}/metrics")
    assert traced.spans() == {}


def test_refusals_of_a_full_service_have_no_spans(traced: Traced, cat: bytes) -> None:
    with traced.server.batcher.admission.reserve(1e6):
        assert traced.ask("/classify", files={"file": cat}).status_code == 429
    assert traced.spans() == {}


def test_spans_reach_a_collector_over_http(monkeypatch: pytest.MonkeyPatch, cat: bytes) -> None:
    with collect() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=cats,deployment=here")
        with serve() as server:
            httpx2.post(f"{server.url}/classify", files={"file": cat}, headers=ASKED)
        # Stopping the server has sent what was left.
        assert set(collector.spans) == {"POST /classify", "decode", "queue", "inference", "batch"}
        (request,) = collector.spans["POST /classify"]
        assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
        (batch,) = collector.spans["batch"]
        assert [link.span_id for link in batch.links] == [request.span_id]
        assert collector.resource["service.name"] == "cats"
        assert collector.resource["service.version"]


@pytest.mark.thorough
def test_a_collector_that_hangs_holds_up_neither_answers_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    with collect() as collector:
        collector.held.clear()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setattr("app.telemetry.traces._CLOSE_S", 0.05)
        with serve() as server:
            first = httpx2.post(f"{server.url}/classify", files={"file": cat})
            assert collector.asked.wait(30)
            second = httpx2.post(f"{server.url}/classify", files={"file": cat})
            assert (first.status_code, second.status_code) == (200, 200)
        assert collector.spans == {}  # it was never answered, and the server has ended


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_TRACES_EXPORTER": "none"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
        {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"},
    ],
)
def test_nothing_is_traced_or_connected_to_unless_a_collector_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = set(threading.enumerate()) - {threading.current_thread()}
    connect, connected = socket.socket.connect, []

    def note(self: socket.socket, address: Any) -> None:
        if threading.current_thread() not in before:  # another test's exporter may still try
            connected.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    app = create_app(Settings())
    assert create_traces() is None
    assert get_parts(app).lifecycle.traces is None
    assert not app._native_telemetry.enabled()
    assert app._telemetry["auto_configure"] is False
    assert set(threading.enumerate()) <= before | {threading.current_thread()}
    assert connected == []


def test_without_the_extra_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert create_traces() is None
    assert "extra `otel`" in caplog.text
