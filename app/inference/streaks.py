"""How an engine that fails on everything is told from an image that an engine fails on."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import count

from app.errors import UnavailableError
from app.inference.batch import BatchRow, Outcome
from model.engines.base import Engine

_LONG = 5
"""Batches in a row without one answer after which an engine is broken."""


@dataclass(slots=True)
class _Streak:
    number: int
    batches: int = 0


class FailureStreaks:
    """Batches that failed as a whole, in a row, by engine; used from any thread."""

    def __init__(self) -> None:
        self._numbers = count()
        self._streaks: dict[Engine, _Streak] = {}
        self._lock = threading.Lock()

    def record(self, engine: Engine, outcomes: Iterable[Outcome]) -> None:
        """Count a batch; one answer in it ends the streak, and too little memory is no failure."""
        answered = unavailable = False
        for outcome in outcomes:
            answered |= isinstance(outcome, BatchRow)
            unavailable |= isinstance(outcome, UnavailableError)
        if not answered and not unavailable:
            with self._lock:
                streak = self._streaks.get(engine) or _Streak(next(self._numbers))
                streak.batches += 1
                self._streaks[engine] = streak
        elif answered and engine in self._streaks:
            with self._lock:
                self._streaks.pop(engine, None)

    def long(self) -> list[Hashable]:
        """The streaks that say that an engine is broken, each by a number of its own."""
        with self._lock:
            return [one.number for one in self._streaks.values() if one.batches >= _LONG]
