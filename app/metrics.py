"""Every collector, in one table."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's collectors, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "mobilenet_requests",
            "Requests answered; client_closed is a client that left first.",
            ["route", "status"],
            registry=registry,
        )
        self.request_duration = Histogram(
            "mobilenet_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "mobilenet_stage_duration_seconds",
            "Time an image spends in one stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "mobilenet_batch_size", "Images a batch.", buckets=_BATCH_SIZES, registry=registry
        )
        self.refusals = Counter(
            "mobilenet_refusals", "Requests refused at the door.", ["code"], registry=registry
        )
        self.cache_requests = Counter(
            "mobilenet_cache_requests",
            "Images asked: hit was kept, shared was being computed for another, miss is computed.",
            ["outcome"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "mobilenet_cache_bytes", "Bytes of answers that are kept.", registry=registry
        )
        self.queue_depth = Gauge(
            "mobilenet_queue_depth", "Images that wait for a batch.", registry=registry
        )
        self.in_flight = Gauge(
            "mobilenet_in_flight_requests", "Requests that are being answered.", registry=registry
        )
        self.log_lines_dropped = Counter(
            "mobilenet_log_lines_dropped",
            "Log lines that nobody took in time, or that could not be written.",
            registry=registry,
        )
        self.ready = Gauge("mobilenet_ready", "1 while /readyz answers 200.", registry=registry)
