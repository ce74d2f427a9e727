"""What threads are at now, so that others can see whether they get on with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count


class UnderWay:
    """Pieces of work that have begun and not ended, each under a number of its own.

    Args:
        now: monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._numbers = count()
        self._started: dict[int, float] = {}  # one step of the interpreter a change: no lock

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Do one piece of work inside."""
        number = next(self._numbers)
        self._started[number] = self._now()
        try:
            yield
        finally:
            del self._started[number]

    def numbers(self) -> tuple[int, ...]:
        """The pieces; a number that stays is a thread that does not get on."""
        return tuple(self._started)

    def longest_s(self) -> float:
        """How long the oldest of them has taken so far, in seconds; 0 if there is none."""
        started = tuple(self._started.values())
        return self._now() - min(started) if started else 0.0
