"""Declares every collector of /metrics, in one table, and renders them.

Names follow Prometheus' rules: base units, `_total` on what only grows. No label's value is a
client's: a route is the path as it is declared, and what matches none is `unmatched`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from app import __version__

UNMATCHED: Final = "unmatched"
CLIENT_CLOSED: Final = 499
"""nginx's status for a client that left first; only ever in logs and metrics."""

_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
_STAGES: Final = ("read", "decode", "queue", "inference", "encode")
_CACHE_OUTCOMES: Final = ("hit", "shared", "miss")
_TICK_S: Final = 0.1
"""What uvicorn sleeps between two ticks, in seconds."""
_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_RENDERINGS_PER_S: Final = 10.0
_RENDERING_BURST: Final = 10.0


class Metrics:
    """The service's collectors, in a registry of their own, with those of the process."""

    # Longer than other functions, because it is the table.
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the package leaves out its type
        self.registry = registry = CollectorRegistry()
        self._now = now
        self._ticked = 0.0
        self._rendered = b""
        self._refilled_at = now()
        self._renderings_left = _RENDERING_BURST
        ProcessCollector(registry=registry)

        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_SECONDS)

        # Requests
        self.requests = counter(
            "mobilenet_requests_total",
            "Requests answered; client_closed is a client that left first.",
            ["route", "status"],
        )
        self.request_duration = histogram(
            "mobilenet_request_duration_seconds",
            "Time from a request's headers to the end of its answer, by class of status.",
            ["route", "status"],
        )
        # A look-up of labels takes longer than to count: keep what it finds.
        self._requests_of = cache(self.requests.labels)
        self._duration_of = cache(self.request_duration.labels)
        self.in_flight = gauge("mobilenet_in_flight_requests", "Requests that are being answered.")
        self.refusals = counter(
            "mobilenet_refusals_total",
            "Requests refused before routing, by reason.",
            ["code"],
        )
        for code in ("overloaded", "not_ready", "shutting_down"):
            self.refusals.labels(code)  # shows it at zero
        self.connections = gauge("mobilenet_connections", "Connections of clients.")

        # Images
        self.images = counter(
            "mobilenet_images_total",
            "Images computed, by format and outcome: ok, the code of an error, or abandoned.",
            ["format", "outcome"],
        )
        self._images_of = cache(self.images.labels)
        self.stage_duration = histogram(
            "mobilenet_stage_duration_seconds",
            "Time in one stage: read and encode of a request, the others of an image.",
            ["stage"],
        )
        self._stages = {stage: self.stage_duration.labels(stage) for stage in _STAGES}
        self.batch_size = histogram("mobilenet_batch_size", "Images a batch.", buckets=_BATCH_SIZES)
        self.cache_requests = counter(
            "mobilenet_cache_requests_total",
            "Images asked: hit was kept, shared was being computed for another, miss is computed.",
            ["outcome"],
        )
        self._cached = {one: self.cache_requests.labels(one) for one in _CACHE_OUTCOMES}
        self.cache_bytes = gauge("mobilenet_cache_bytes", "Bytes of answers that are kept.")

        # Saturation
        self.queue_depth = gauge("mobilenet_queue_depth", "Images that wait for a batch.")
        self.queue_oldest = gauge(
            "mobilenet_queue_oldest_wait_seconds",
            "How long the oldest of them has waited; 0 when none does.",
        )
        self.work = gauge(
            "mobilenet_work_images", "Work in flight, in images of the default model's size."
        )
        self.work_capacity = gauge(
            "mobilenet_work_capacity_images", "Work that may be in flight now, in the same unit."
        )
        self.streams = gauge("mobilenet_streams", "Batches that can run at once.")
        self.streams_busy = gauge("mobilenet_streams_busy", "Batches that run.")
        self.decode_threads = gauge(
            "mobilenet_decode_threads", "Images that can be decoded at once."
        )
        self.decode_threads_busy = gauge(
            "mobilenet_decode_threads_busy", "Images that are being decoded."
        )
        self.loop_lag = histogram(
            "mobilenet_loop_lag_seconds",
            "How late the event loop came to a timer, ten times a second.",
            buckets=_LAG_SECONDS,
        )

        # State
        self.ready = gauge("mobilenet_ready", "1 while /readyz answers 200.")
        self.model_info = gauge(
            "mobilenet_model_info",
            "1 for each model that is served.",
            ["model", "digest", "engine", "device"],
        )
        self.log_lines_dropped = counter(
            "mobilenet_log_lines_dropped_total",
            "Log lines that nobody took in time, or that could not be written.",
        )
        build_info = gauge("mobilenet_build_info", "1, with the version.", ["version"])
        build_info.labels(__version__).set(1)

    def record_request(self, route: str, status: int, duration_s: float | None) -> None:
        """Count a request that has ended.

        Args:
            route: as it is declared, or `UNMATCHED`.
            status: of the answer, or `CLIENT_CLOSED`.
            duration_s: from the request's headers on, in seconds; None if it is not observed.
        """
        closed = "client_closed" if status == CLIENT_CLOSED else None
        self._requests_of(route, closed or str(status)).inc()
        if duration_s is not None:
            self._duration_of(route, closed or f"{status // 100}xx").observe(duration_s)

    def record_image(self, image_format: str, outcome: str) -> None:
        """Count an image; the outcome is `ok`, the code of an error, or `abandoned`."""
        self._images_of(image_format, outcome).inc()

    def record_cache(self, **images: int) -> None:
        """Count images by where their answers were found: `hit`, `shared` or `miss`."""
        for outcome, count in images.items():
            if count:
                self._cached[outcome].inc(count)

    def record_tick(self) -> None:
        """Observe how late the event loop runs a timer that it sets ten times a second."""
        now = self._now()
        if self._ticked:
            self.loop_lag.observe(max(0.0, now - self._ticked - _TICK_S))
        self._ticked = now

    def record_stages(self, **seconds: float | None) -> None:
        """Observe times by stage, in seconds; None is a stage that was not reached."""
        for stage, value in seconds.items():
            if value is not None:
                self._stages[stage].observe(value)

    def render(self) -> bytes:
        """Render Prometheus' text format, at most a tenth of a second old.

        Rendering takes milliseconds of the event loop, so more than a burst of ten, refilled ten
        times a second, is answered with the last text.
        """
        now = self._now()
        refilled = self._renderings_left + (now - self._refilled_at) * _RENDERINGS_PER_S
        self._renderings_left = min(_RENDERING_BURST, refilled)
        self._refilled_at = now
        if self._renderings_left >= 1:
            self._renderings_left -= 1
            self._rendered = generate_latest(self.registry)
        return self._rendered
