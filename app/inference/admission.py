"""Bounds the work in flight: admission control by predicted work, not by the number of images."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from app.errors import AppError, OverloadedError
from app.inference.estimate import Estimate

_STEP = 1.05
_LOOK_S = 0.25
_SLOWEST = 0.25
_HEADROOM = 0.85
"""Of the throughput that is seen: the slowest of a hundred requests keep the bound, too."""
_WINDOW_SHARE = 0.5
"""Of the capacity, for one request of many images."""


class Admission:
    """Bounds the work in flight, from a request's admission to its answer.

    Work is what decoding and computing will take, as predicted from an image's header. Its unit is
    one image of the default model's own size, decoded. Belongs to the event loop's thread.

    The predicted throughput knows neither HTTP nor what else the cores do. So the bound shrinks,
    down to a quarter, by as much as the throughput under load is lower: it bounds time.

    Args:
        queue_s: how long accepted work may wait, in seconds.
        streams: batches that run at once.
        running: work that may run besides what waits.
        image_s: what a stream takes for one image.

    Attributes:
        work: in flight now.
    """

    def __init__(
        self,
        *,
        queue_s: float,
        streams: int,
        running: float,
        image_s: Estimate,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue_s = queue_s
        self._streams = streams
        self._running = running
        self.image_s = image_s
        self._now = now
        self._speed = 1.0
        self._done = 0.0
        self._since: float | None = None
        self._places = 0
        self.work = 0.0
        self._usual = 1.0
        self._closed: type[AppError] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def images_per_s(self) -> float:
        """Predicted throughput of the streams together."""
        return self._streams / self.image_s.value

    @property
    def capacity(self) -> float:
        """Work that may be in flight now."""
        return (self._queue_s * self.images_per_s + self._running) * self._speed

    def check(self, cost: float | None = None) -> None:
        """Raise what `reserve` would raise now; without a cost, for a request like most of late.

        Refusing a request once its body is here costs ten times as much as refusing it before.
        """
        if self._closed:
            raise self._closed
        cost = self._usual if cost is None else cost
        if self._places and self.work + cost > self.capacity:
            wait_s = max(1, math.ceil(self.work / (self.images_per_s * self._speed)))
            raise OverloadedError(retry_after_s=wait_s)

    @contextmanager
    def reserve(self, cost: float = 1.0) -> Iterator[None]:
        """Hold a place from before the work begins until its answer is there.

        Raises:
            OverloadedError: there is no room; never while nothing else is in flight.
            AppError: admission is closed.
        """
        self.check(cost)
        # Towards the median, which a few large ones do not move.
        self._usual *= _STEP if cost > self._usual else 1 / _STEP
        self._places += 1
        self.work += cost
        self._empty.clear()
        try:
            yield
        finally:
            self._observe(cost)
            self._places -= 1
            # Sums of fractions leave a remainder.
            self.work = self.work - cost if self._places else 0.0
            if not self._places:
                self._empty.set()

    def window(self, costs: Sequence[float], most: int) -> tuple[int, float]:
        """How many images of one request may be in flight at once, and what they cost at most."""
        sums = list(accumulate(sorted(costs, reverse=True)[:most]))
        room = self.capacity * _WINDOW_SHARE
        window = max(1, sum(work <= room for work in sums))
        return window, sums[window - 1]

    def _observe(self, cost: float) -> None:
        """Compare finished work with the prediction, while enough is in flight to keep all busy."""
        if self.work < self.capacity / 2:
            self._since = None
            return
        now = self._now()
        if self._since is None:
            self._since, self._done = now, 0.0
            return
        self._done += cost
        if (elapsed := now - self._since) >= _LOOK_S:
            seen = _HEADROOM * self._done / elapsed / self.images_per_s
            self._speed = min(1.0, max(_SLOWEST, (self._speed + seen) / 2))
            self._since, self._done = now, 0.0

    def close(self, reason: type[AppError]) -> None:
        """Admit nothing more; what is in flight stays. The first reason given is kept."""
        self._closed = self._closed or reason

    async def wait_empty(self) -> None:
        """Wait until the last place is given back."""
        await self._empty.wait()
