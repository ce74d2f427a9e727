"""How much work is let in: places, counted in predicted work and not in entries."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from app.errors import AppError, OverloadedError

_STEP = 1.05
_LOOK_S = 0.25
_SLOWEST = 0.25
_HEADROOM = 0.85
"""Of the pace that is seen: the slowest of a hundred requests keep the bound, not the usual one."""
_WINDOW_SHARE = 0.5
"""Of the capacity, for one request of many images."""


class Admission:
    """A bound on the work that is inside, from a request's admission to its answer.

    Work is what decoding and computing will take, as predicted from a picture's header. Its unit is
    one image of the model's default size, decoded. Belongs to the event loop's thread.

    The prediction knows neither HTTP nor what else the cores do. So the bound shrinks, down to a
    quarter, by as much as work that waits is done slower than predicted: it is a bound on time.

    Args:
        capacity: work that may be inside.
        images_per_s: work that is done in a second, as predicted.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        capacity: float,
        images_per_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self.images_per_s = images_per_s
        self._now = now
        self._pace = 1.0
        self._done = 0.0
        self._since: float | None = None
        self._places = 0
        self._work = 0.0
        self._usual = 1.0
        self._closed: type[AppError] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def capacity(self) -> float:
        """The work that may be inside now."""
        return self._capacity * self._pace

    @property
    def work(self) -> float:
        """The work that is inside now."""
        return self._work

    def check(self, cost: float | None = None) -> None:
        """Raise what `reserve` would raise now; without a cost, of a request like most of late.

        Who is let past the door and finds no room once the body is here has cost ten times what a
        refusal at the door does.
        """
        if self._closed:
            raise self._closed
        cost = self._usual if cost is None else cost
        if self._places and self._work + cost > self.capacity:
            wait_s = max(1, math.ceil(self._work / (self.images_per_s * self._pace)))
            raise OverloadedError(headers={"Retry-After": str(wait_s)})

    @contextmanager
    def reserve(self, cost: float = 1.0) -> Iterator[None]:
        """Hold a place from before the work begins until its answer is there.

        Raises:
            OverloadedError: there is no room; never when nothing else is inside.
            AppError: admission is closed.
        """
        self.check(cost)
        # Towards the median, which a few large ones do not move.
        self._usual *= _STEP if cost > self._usual else 1 / _STEP
        self._places += 1
        self._work += cost
        self._empty.clear()
        try:
            yield
        finally:
            self._watch_pace(cost)
            self._places -= 1
            # Sums of fractions leave a rest; an empty house holds no work.
            self._work = self._work - cost if self._places else 0.0
            if not self._places:
                self._empty.set()

    def window(self, costs: Sequence[float], most: int) -> tuple[int, float]:
        """How many images of one request may be inside at once, and what so many cost at most."""
        sums = list(accumulate(sorted(costs, reverse=True)[:most]))
        room = self.capacity * _WINDOW_SHARE
        window = max(1, sum(work <= room for work in sums))
        return window, sums[window - 1]

    def _watch_pace(self, cost: float) -> None:
        """Work is done: compare with the prediction, while enough is inside to keep all busy."""
        if self._work < self.capacity / 2:
            self._since = None
            return
        now = self._now()
        if self._since is None:
            self._since, self._done = now, 0.0
            return
        self._done += cost
        if (elapsed := now - self._since) >= _LOOK_S:
            seen = _HEADROOM * self._done / elapsed / self.images_per_s
            self._pace = min(1.0, max(_SLOWEST, (self._pace + seen) / 2))
            self._since, self._done = now, 0.0

    def close(self, reason: type[AppError]) -> None:
        """Let nobody in any more; who is inside stays. The first reason given is kept."""
        self._closed = self._closed or reason

    async def wait_empty(self) -> None:
        """Wait until the last place is given back."""
        await self._empty.wait()
