"""Computing a little less than a CPU quota allows, so that the kernel never stops the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SHARE = 0.93
"""Of the quota; the rest is for what runs between two looks at the clock, and for health checks."""
_MOST_S = 0.02
"""Processor time that is made good at once, at most: about two pictures'. What refusals cost counts
too, and clients that ask again at once when they are refused would else stop all computing.
"""


class Pace:
    """Rests the threads that compute once the process has used more than its share of time.

    A quota that is used up stops every thread until the next period, the event loop's too. Resting
    only where pictures are decoded and batches run leaves the loop free to answer. Time that was
    not used is not saved, as the kernel does not save it.

    Args:
        quota: in cores.
        now: monotonic clock in seconds.
        used: processor time of the whole process in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        quota: float,
        *,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = quota * _SHARE
        self._now = now
        self._used = used
        self._sleep = sleep
        self._lock = threading.Lock()
        self._seen = now(), used()
        self._debt_s = 0.0

    def rest(self) -> None:
        """Call before each piece of work: waits until the process is within its share."""
        with self._lock:
            seen = self._now(), self._used()
            elapsed_s, used_s = (new - old for new, old in zip(seen, self._seen, strict=True))
            self._seen = seen
            debt_s = self._debt_s + used_s - elapsed_s * self._rate
            self._debt_s = min(max(0.0, debt_s), _MOST_S)
            rest_s = self._debt_s / self._rate
        if rest_s:
            self._sleep(rest_s)


def no_rest() -> None:
    """What a process without a quota does instead of `Pace.rest`."""
