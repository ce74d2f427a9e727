"""Learns from what work took how long more of it will take."""

from __future__ import annotations

import threading

_KEPT = 0.95
"""Of the past, with each observation: the last twenty count for two thirds."""
_MOST = 8
"""An observation counts as at most so many times what was expected: a process that was stopped for
a minute, or a machine that slept, has not become slow.
"""


class Estimate:
    """What a unit of work takes in seconds; may be used by several threads.

    Args:
        guess: until the first observation replaces it.

    Attributes:
        value: seconds a unit, those of late, with more weight on larger pieces of work.
    """

    def __init__(self, guess: float) -> None:
        self.value = guess
        self._seconds = self._units = 0.0
        self._lock = threading.Lock()

    def learn(self, seconds: float, units: float) -> None:
        """Take into account what so many units of work took."""
        with self._lock:
            expected = self.value * units
            self._seconds = _KEPT * self._seconds + min(seconds, _MOST * expected)
            self._units = _KEPT * self._units + units
            if self._seconds and self._units:
                self.value = self._seconds / self._units
