"""Watches whether threads get on with their work, and whether engines still answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from model.engines.base import Engine

_FAILURES_TO_OPEN = 5


class InFlight:
    """Work that has begun and not ended, each piece under an id of its own; for any thread.

    Args:
        now: monotonic clock in seconds.
    """

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


@dataclass(slots=True)
class _Circuit:
    id: int
    failures: int = 0


class CircuitBreaker:
    """Opens for an engine after five failed batches in a row; an answer closes it again.

    It tells a broken engine from an image that an engine fails on. While it is open the service is
    not ready, but answers what still comes: a success must be able to close it. For any thread.
    """

    def __init__(self) -> None:
        self._ids = count()
        self._circuits: dict[Engine, _Circuit] = {}
        self._lock = threading.Lock()

    def failed(self, engine: Engine) -> None:
        """Record a batch without any answer."""
        with self._lock:
            circuit = self._circuits.get(engine) or _Circuit(next(self._ids))
            circuit.failures += 1
            self._circuits[engine] = circuit

    def answered(self, engine: Engine) -> None:
        """Record a batch with an answer."""
        if engine in self._circuits:
            with self._lock:
                self._circuits.pop(engine, None)

    def open_ids(self) -> list[int]:
        """Ids of the open circuits; one that closed and opened again has a new id."""
        with self._lock:
            circuits = self._circuits.values()
            return [circuit.id for circuit in circuits if circuit.failures >= _FAILURES_TO_OPEN]
