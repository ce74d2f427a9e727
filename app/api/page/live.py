"""Samples what the service does for the viewers of its page: one sampler, many viewers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
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
        self.viewers = 0
        self._closed = False
        self._taken = 0
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._changed = asyncio.Event()
        self._last: tuple[float, Counter[str], Counter[str]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a viewer; the sampler runs while there is one.

        Raises:
            OverloadedError: there are too many viewers.
            ShuttingDownError: the service is shutting down.
        """
        if self._closed:
            raise ShuttingDownError
        if self.viewers >= MAX_VIEWERS:
            detail = f"{MAX_VIEWERS} viewers watch already, and no more may; try again later."
            raise OverloadedError(detail, retry_after_s=10)
        self.viewers += 1
        self._metrics.in_flight.dec()  # a viewer is no load
        if self.viewers == 1:
            self._sample()
        try:
            yield
        finally:
            self._metrics.in_flight.inc()
            self.viewers -= 1
            if not self.viewers:
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
        at, totals, batches = loop.time(), *self._read()
        last_at, last_totals, last_batches = self._last or (at, totals, batches)
        snapshot = {
            "at": round(self._now(), 3),
            "seconds": round(at - last_at, 3),
            **{name: total - last_totals[name] for name, total in totals.items()},
            "batches": batches - last_batches,
            "waiting": _value(self._metrics.queue_depth),
            "in_flight": _value(self._metrics.in_flight),
            "ready": bool(_value(self._metrics.ready)),
        }
        self._kept.append(json.dumps(snapshot))
        self._last = at, totals, batches
        self._taken += 1
        self._wake()
        self._timer = loop.call_at(at + _EVERY_S, self._sample)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _read(self) -> tuple[Counter[str], Counter[str]]:
        """Count requests and images, and batches by size, since the process began."""
        totals, batches = Counter(requests=0, refused=0, images=0), Counter[str]()
        for sample in _samples(self._metrics.requests):
            if sample.name.endswith("_total") and sample.labels["route"] in self._routes:
                totals["requests"] += int(sample.value)
                totals["refused"] += int(sample.value) * (sample.labels["status"] in _REFUSED)
        below = 0
        for sample in _samples(self._metrics.batch_size):
            if sample.name.endswith("_bucket"):  # buckets are cumulative
                batches[sample.labels["le"].removesuffix(".0")] = int(sample.value) - below
                below = int(sample.value)
            elif sample.name.endswith("_sum"):
                totals["images"] = int(sample.value)
        return totals, batches


def _samples(collector: MetricWrapperBase) -> Sequence[Sample]:
    (metric,) = collector.collect()
    return metric.samples


def _value(gauge: Gauge) -> float:
    return _samples(gauge)[0].value
