"""Runs a computation once for all callers that ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from app.errors import DeadlineExceededError

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class _Flight(Generic[_T]):
    task: asyncio.Task[_T]
    callers: int = 0


class SingleFlight(Generic[_T]):
    """Computations in flight by key, each in a task of its own, for as long as a caller waits."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[_T]] = {}

    async def run(
        self, key: Hashable, compute: Callable[[], Coroutine[Any, Any, _T]], timeout_s: float
    ) -> tuple[_T, bool]:
        """Await the computation of a key, and tell whether another caller had started it.

        A caller that is cancelled or out of time leaves the others alone; with the last one the
        computation is cancelled, and has ended when this returns.

        Raises:
            DeadlineExceededError: this caller's time is up.
            AppError: the computation's own; every caller gets it.
        """
        flight = self._flights.get(key)
        shared = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(compute()))
            flight.task.add_done_callback(partial(self._forget, key))
        task = flight.task
        flight.callers += 1
        try:
            await asyncio.wait((task,), timeout=timeout_s)
            if not task.done():
                raise DeadlineExceededError
        finally:
            flight.callers -= 1
            if not (flight.callers or task.done()):
                self._forget(key, task)
                task.cancel()
                await asyncio.wait((task,))
        return task.result(), shared

    def _forget(self, key: Hashable, task: asyncio.Task[_T]) -> None:
        """Let the next caller of a key start a new flight."""
        if (flight := self._flights.get(key)) and flight.task is task:
            del self._flights[key]
        if task.done() and not task.cancelled():
            task.exception()  # marks it as retrieved: no caller may be left to do so
