"""Keeps the process below its CPU quota, so that the kernel never stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SHARE = 0.93
"""Of the quota; the rest is for what runs between two looks at the clock, and for health checks."""
_MAX_DEBT_S = 0.02
"""CPU time that one call makes up for, at most: about two images'. Refusals cost CPU time too, and
clients that retry at once would otherwise stop all computing.
"""


class CpuThrottle:
    """Delays the threads that compute once the process has used more than its share of CPU time.

    A used-up quota stops every thread until the next period, the event loop's too. Throttling only
    decoding and batches leaves the loop free to answer. Unused time is not saved, as the kernel
    does not save it either.

    Args:
        quota: in cores.
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

    def __call__(self) -> None:
        """Wait until the process is within its share; call before each image and each batch."""
        with self._lock:
            seen = self._now(), self._used()
            elapsed_s, used_s = (new - old for new, old in zip(seen, self._seen, strict=True))
            self._seen = seen
            debt_s = self._debt_s + used_s - elapsed_s * self._rate
            self._debt_s = min(max(0.0, debt_s), _MAX_DEBT_S)
            wait_s = self._debt_s / self._rate
        if wait_s:
            self._sleep(wait_s)
