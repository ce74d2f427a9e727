"""Watches whether threads get on with their work, and whether engines still answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from model.engines.base import Engine

_FAILURES_TO_OPEN = 5


class InFlight:
    """Work that has begun and not ended, each under an id of its own; for any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ids = count()
        self._started: dict[int, float] = {}  # each change is atomic: no lock

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count the work that is done inside."""
        new_id = next(self._ids)
        self._started[new_id] = self._now()
        try:
            yield
        finally:
            del self._started[new_id]

    def ids(self) -> tuple[int, ...]:
        """Ids of the work in flight; one that stays belongs to a thread that hangs."""
        return tuple(self._started)

    def longest_s(self) -> float:
        """How long the oldest work has taken so far, in seconds; 0 if there is none."""
        started = tuple(self._started.values())
        return self._now() - min(started) if started else 0.0


class CircuitBreaker:
    """Opens for an engine after five failed batches in a row; an answer closes it again.

    It tells a broken engine from an image that an engine fails on. While it is open the service is
    not ready, but answers what still comes: a success must be able to close it. For any thread.
    """

    def __init__(self) -> None:
        self._ids = count()
        self._failures = Counter[Engine]()
        self._open: dict[Engine, int] = {}
        self._lock = threading.Lock()

    def failed(self, engine: Engine) -> None:
        """Record a batch without any answer."""
        with self._lock:
            self._failures[engine] += 1
            if self._failures[engine] == _FAILURES_TO_OPEN:
                self._open[engine] = next(self._ids)

    def answered(self, engine: Engine) -> None:
        """Record a batch with an answer."""
        if engine in self._failures:
            with self._lock:
                self._failures.pop(engine, None)
                self._open.pop(engine, None)

    def open_ids(self) -> list[int]:
        """Ids of the open circuits; one that closed and opened again has a new id."""
        with self._lock:
            return list(self._open.values())
