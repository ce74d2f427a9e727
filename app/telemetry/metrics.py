"""Every collector, in one table.

Names follow Prometheus' rules: base units, `_total` on what only grows. No label's value is a
client's: a route is the path as it is declared, and what matches none is `unmatched`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector

from app import __version__

UNMATCHED: Final = "unmatched"
CLIENT_CLOSED: Final = 499
"""nginx's status for a client that left first; only ever in logs and metrics."""

_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class Children(dict[tuple[str, ...], _Metric], Generic[_Metric]):
    """A collector's children by their labels' values, each looked up once: a lookup costs 2 us."""

    def __init__(self, metric: _Metric, *known: Sequence[str]) -> None:
        """Hold a collector's children.

        Args:
            metric: the collector.
            known: labels' values that are there from the start, at zero.
        """
        super().__init__()
        self.metric = metric
        for values in known:
            self[tuple(values)]

    def __missing__(self, values: tuple[str, ...]) -> _Metric:
        """Ask the collector, and hold what it gives."""
        self[values] = child = self.metric.labels(*values)
        return child


class Metrics:
    """The service's collectors, in a registry of their own, with those of the process."""

    def __init__(self) -> None:  # longer than other functions, because it is the table
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the package leaves out its type
        self.registry = registry = CollectorRegistry()
        self._ticked = 0.0
        ProcessCollector(registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        def histogram(
            name: str, meaning: str, *labels: str, buckets: Sequence[float] = _SECONDS
        ) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        # Requests
        self.requests = Children(
            counter(
                "mobilenet_requests_total",
                "Requests answered; client_closed is a client that left first.",
                "route", "status",
            )
        )  # fmt: skip
        self.request_duration = Children(
            histogram(
                "mobilenet_request_duration_seconds",
                "Time from a request's headers to the end of its answer, by class of status.",
                "route", "status",
            )
        )  # fmt: skip
        self.in_flight = gauge("mobilenet_in_flight_requests", "Requests that are being answered.")
        self.refusals = Children(
            counter("mobilenet_refusals_total", "Requests refused at the door, by reason.", "code"),
            ["overloaded"], ["not_ready"], ["shutting_down"],
        )  # fmt: skip
        self.connections = gauge("mobilenet_connections", "Connections of clients.")

        # Images
        self.images = Children(
            counter(
                "mobilenet_images_total",
                "Images computed, by format and outcome: ok, the code of an error, or abandoned.",
                "format", "outcome",
            )
        )  # fmt: skip
        self.stage_duration = Children(
            histogram(
                "mobilenet_stage_duration_seconds",
                "Time in one stage: read and encode of a request, the others of an image.",
                "stage",
            ),
            ["read"], ["decode"], ["queue"], ["inference"], ["encode"],
        )  # fmt: skip
        self.batch_size = histogram("mobilenet_batch_size", "Images a batch.", buckets=_BATCH_SIZES)
        self.cache_requests = Children(
            counter(
                "mobilenet_cache_requests_total",
                "Images asked: hit was kept, shared was being computed for another, miss is "
                "computed.",
                "outcome",
            ),
            ["hit"], ["shared"], ["miss"],
        )  # fmt: skip
        self.cache_bytes = gauge("mobilenet_cache_bytes", "Bytes of answers that are kept.")

        # Saturation
        self.queue_depth = gauge("mobilenet_queue_depth", "Images that wait for a batch.")
        self.queue_oldest = gauge(
            "mobilenet_queue_oldest_wait_seconds",
            "How long the oldest of them has waited; 0 when none does.",
        )
        self.work = gauge(
            "mobilenet_work_images", "Work that is inside, in images of the default model's size."
        )
        self.work_capacity = gauge(
            "mobilenet_work_capacity_images", "Work that may be inside now, in the same unit."
        )
        self.streams = gauge("mobilenet_streams", "Batches that can run at once.")
        self.streams_busy = gauge("mobilenet_streams_busy", "Batches that run.")
        self.decode_threads = gauge(
            "mobilenet_decode_threads", "Pictures that can be decoded at once."
        )
        self.decode_threads_busy = gauge(
            "mobilenet_decode_threads_busy", "Pictures that are being decoded."
        )
        self.loop_lag = histogram(
            "mobilenet_loop_lag_seconds",
            "How late the event loop came to a timer, ten times a second.",
            buckets=_LAG_SECONDS,
        )

        # State
        self.ready = gauge("mobilenet_ready", "1 while /readyz answers 200.")
        self.model_info = gauge(
            "mobilenet_model_info", "1 for each model that is served.",
            "model", "digest", "engine", "device",
        )  # fmt: skip
        self.log_lines_dropped = counter(
            "mobilenet_log_lines_dropped_total",
            "Log lines that nobody took in time, or that could not be written.",
        )
        gauge("mobilenet_build_info", "1, with the version.", "version").labels(__version__).set(1)

    def record_request(self, route: str, status: int, duration_s: float | None) -> None:
        """Count a request that has ended.

        Args:
            route: as it is declared, or `UNMATCHED`.
            status: of the answer, or `CLIENT_CLOSED`.
            duration_s: from the request's headers on, in seconds; None is not told.
        """
        closed = status == CLIENT_CLOSED
        self.requests[route, "client_closed" if closed else str(status)].inc()
        kind = "client_closed" if closed else f"{status // 100}xx"
        if duration_s is not None:
            self.request_duration[route, kind].observe(duration_s)

    def record_tick(self, interval_s: float) -> None:
        """The event loop has come to a timer, which it sets anew each time for so many seconds."""
        now = time.monotonic()
        if self._ticked:
            self.loop_lag.observe(max(0.0, now - self._ticked - interval_s))
        self._ticked = now

    def record_stages(self, **seconds: float | None) -> None:
        """Count times by stage, in seconds; None is a stage that was not reached."""
        for stage, value in seconds.items():
            if value is not None:
                self.stage_duration[stage,].observe(value)
