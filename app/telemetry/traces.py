"""Traces requests and batches with OpenTelemetry.

Does nothing unless the standard variables name a collector and the extra `otel` is installed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext

from app import __version__
from app.telemetry.run_within import run_within

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_NAME: Final = "mobilenet-serve"
_CLOSE_S: Final = 1.0
_SPOKEN: Final = "http/protobuf"

_log = logging.getLogger(__name__)


class Traces:
    """Creates spans, on the clock of `now`; the framework creates the request's own."""

    def __init__(self, provider: TracerProvider, now: Callable[[], float] = time.monotonic) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer(_NAME, __version__)
        self._now = now

    @property
    def request(self) -> SpanContext | None:
        """The span of the request that is being answered, if it is sampled."""
        context = trace.get_current_span().get_span_context()
        return context if context.trace_flags.sampled else None

    @contextmanager
    def batch(self, requests: Sequence[SpanContext | None]) -> Iterator[SpanContext | None]:
        """Trace the batch that runs inside, linked to each image's request that is traced."""
        links = [Link(request) for request in requests if request]
        if not links:
            yield None
            return
        attributes = {"mobilenet.batch_size": len(requests)}
        span = self._tracer.start_span("batch", Context(), links=links, attributes=attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield span.get_span_context()

    def record_stage(
        self,
        name: str,
        started: float,
        seconds: float,
        link: SpanContext | None = None,
        **attributes: str | float,
    ) -> None:
        """Record a stage of the request that is being answered, once it is over.

        The link is a span of another trace that it belongs to as well; the attributes get the
        prefix `mobilenet.`.
        """
        begun = time.time_ns() - int((self._now() - started) * 1e9)
        span = self._tracer.start_span(
            name,
            links=[Link(link)] if link else (),
            attributes={f"mobilenet.{key}": value for key, value in attributes.items()},
            start_time=begun,
        )
        span.end(begun + int(seconds * 1e9))

    def close(self) -> None:
        """Export what is left, for a second at most."""
        run_within(_CLOSE_S, self.provider.shutdown)


def format_traceparent(span: SpanContext) -> bytes:
    """Format a span as the header of W3C's Trace Context."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}".encode()


def create_traces() -> Traces | None:
    """Create what the environment asks for; None without a collector or the extra."""
    endpoint = _read("ENDPOINT")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not endpoint or disabled or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    if (protocol := _read("PROTOCOL") or _SPOKEN) != _SPOKEN:
        _log.warning(
            "No traces: OTEL_EXPORTER_OTLP_PROTOCOL must be %s.", _SPOKEN, extra={"given": protocol}
        )
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("No traces: OTEL_EXPORTER_OTLP_ENDPOINT needs the extra `otel`.")
        return None
    provider = create_provider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


def create_provider() -> TracerProvider:
    """Create a provider without an exporter; the environment sets sampler and resource."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

    class HideQueries(SpanProcessor):
        """Hides queries, into which a client may put secrets."""

        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            del parent_context
            if "url.query" in (span.attributes or {}):
                span.set_attribute("url.query", "REDACTED")

    own = Resource.create({"service.name": _NAME, "service.version": __version__})
    # `close` shuts it down within a second; the SDK would wait for half a minute.
    provider = TracerProvider(
        resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(HideQueries())
    return provider


def _read(name: str) -> str:
    for prefix in ("OTEL_EXPORTER_OTLP_TRACES", "OTEL_EXPORTER_OTLP"):
        if value := os.environ.get(f"{prefix}_{name}", "").strip():
            return value
    return ""
