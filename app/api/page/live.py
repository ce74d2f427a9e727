"""What the service does at this moment, for people who watch it: one sampler, many viewers."""

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
"""Snapshots that a new viewer is given, and those that a slow one may lag behind."""
_EVERY_S: Final = 1.0
_REFUSED: Final = frozenset({"429", "503"})


@dataclass(frozen=True, slots=True)
class _Totals:
    """Counts since the process began, at one time of the loop's clock."""

    at: float
    requests: float
    refused: float
    batches: Mapping[str, float]
    images: float


class Live:
    """Samples the metrics once a second while somebody watches; belongs to the event loop's thread.

    Args:
        metrics: what is sampled.
        routes: those whose requests count, as declared.
        get_loop: whose clock and timers are used, once somebody watches.
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
        """How many watch."""
        return self._viewers

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Watch inside; the sampler runs from the first viewer's coming to the last one's leaving.

        Raises:
            OverloadedError: there are too many viewers.
            ShuttingDownError: the service ends.
        """
        if self._closed:
            raise ShuttingDownError
        if self._viewers >= MAX_VIEWERS:
            detail = f"{MAX_VIEWERS} viewers watch already, and no more may; try again later."
            raise OverloadedError(detail, {"Retry-After": "10"})
        self._viewers += 1
        self._metrics.in_flight.dec()  # it waits for no answer: nobody need see it as load
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
        """Snapshots as JSON: those of the last minute that are there, then each when it is taken.

        Ends when the service does, and for a viewer who reads too slowly.
        """
        seen = self._taken - len(self._kept)
        while not self._closed and self._taken - seen <= KEPT:
            if seen < self._taken:
                seen += 1
                yield self._kept[seen - self._taken - 1]
            else:
                await self._changed.wait()

    def close(self) -> None:
        """Send all viewers away, and let nobody in any more."""
        self._closed = True
        self._wake()
        self._stop()

    def _stop(self) -> None:
        """Nobody watches: what is kept would be old when somebody comes."""
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
            if sample.name.endswith("_bucket"):  # each holds those before it, too
                sizes[sample.labels["le"].removesuffix(".0")] = sample.value - below
                below = sample.value
            elif sample.name.endswith("_sum"):
                images = sample.value
        return _Totals(at, requests, refused, sizes, images)

    def _compare(self, before: _Totals, now: _Totals) -> Mapping[str, object]:
        """What happened between two looks, and what is so at the second one."""
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
