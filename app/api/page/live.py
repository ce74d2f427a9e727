"""Samples what the service does for the viewers of its page: one sampler, many viewers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from app.errors import OverloadedError, ShuttingDownError
from app.telemetry.metrics import Metrics

MAX_VIEWERS: Final = 100
KEPT: Final = 60
"""How many snapshots a new viewer is given, and how many a slow one may lag behind."""
_EVERY_S: Final = 1.0
_REFUSED: Final = frozenset({"429", "503"})


@dataclass(frozen=True, slots=True)
class _Totals:
    """Counts since the process began; `at` is by the loop's clock."""

    at: float
    requests: float
    refused: float
    batches: Mapping[str, float]
    images: float


class Live:
    """Samples the metrics once a second while somebody watches; belongs to the event loop's thread.

    Args:
        metrics: the sampled collectors.
        routes: paths, as declared, whose requests count.
        get_loop: gives the event loop, once somebody watches.
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self,
        metrics: Metrics,
        routes: Collection[str],
        get_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._routes = frozenset(routes)
        self._get_loop = get_loop
        self._now = now
        self._viewers = 0
        self._closed = False
        self._taken = 0
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._changed = asyncio.Event()
        self._last: _Totals | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def viewers(self) -> int:
        """The number of viewers."""
        return self._viewers

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a viewer; the sampler runs while there is one.

        Raises:
            OverloadedError: there are too many viewers.
            ShuttingDownError: the service is shutting down.
        """
        if self._closed:
            raise ShuttingDownError
        if self._viewers >= MAX_VIEWERS:
            detail = f"{MAX_VIEWERS} viewers watch already, and no more may; try again later."
            raise OverloadedError(detail, retry_after_s=10)
        self._viewers += 1
        self._metrics.in_flight.dec()  # a viewer is no load
        if self._viewers == 1:
            self._sample()
        try:
            yield
        finally:
            self._metrics.in_flight.inc()
            self._viewers -= 1
            if not self._viewers:
                self._stop()

    async def watch(self) -> AsyncIterator[str]:
        """Yield snapshots as JSON: those kept from the last minute, then each as it is taken.

        Ends with the service, and for a viewer who reads too slowly.
        """
        seen = self._taken - len(self._kept)
        while not self._closed and self._taken - seen <= KEPT:
            if seen < self._taken:
                seen += 1
                yield self._kept[seen - self._taken - 1]
            else:
                await self._changed.wait()

    def close(self) -> None:
        """End every stream, and admit no more viewers."""
        self._closed = True
        self._wake()
        self._stop()

    def _stop(self) -> None:
        """Stop sampling; kept snapshots would be stale for the next viewer."""
        if self._timer:
            self._timer.cancel()
        self._timer = self._last = None
        self._kept.clear()

    def _sample(self) -> None:
        loop = self._get_loop()
        totals = self._read(loop.time())
        self._kept.append(json.dumps(self._compare(self._last or totals, totals)))
        self._last = totals
        self._taken += 1
        self._wake()
        self._timer = loop.call_at(totals.at + _EVERY_S, self._sample)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _read(self, at: float) -> _Totals:
        requests = refused = images = 0.0
        for sample in _samples(self._metrics.requests):
            if sample.name.endswith("_total") and sample.labels["route"] in self._routes:
                requests += sample.value
                refused += sample.value if sample.labels["status"] in _REFUSED else 0
        sizes, below = {}, 0.0
        for sample in _samples(self._metrics.batch_size):
            if sample.name.endswith("_bucket"):  # buckets are cumulative
                sizes[sample.labels["le"].removesuffix(".0")] = sample.value - below
                below = sample.value
            elif sample.name.endswith("_sum"):
                images = sample.value
        return _Totals(at, requests, refused, sizes, images)

    def _compare(self, before: _Totals, now: _Totals) -> Mapping[str, object]:
        """Describe what happened between two samples, and the state at the second."""
        sizes = {size: count - before.batches[size] for size, count in now.batches.items()}
        return {
            "at": round(self._now(), 3),
            "seconds": round(now.at - before.at, 3),
            "requests": now.requests - before.requests,
            "refused": now.refused - before.refused,
            "images": now.images - before.images,
            "batches": {size: count for size, count in sizes.items() if count},
            "waiting": _value(self._metrics.queue_depth),
            "in_flight": _value(self._metrics.in_flight),
            "ready": bool(_value(self._metrics.ready)),
        }


def _samples(collector: MetricWrapperBase) -> Sequence[Sample]:
    (metric,) = collector.collect()
    return metric.samples


def _value(gauge: Gauge) -> float:
    return _samples(gauge)[0].value
