"""Bounds how long a client may take to send or to read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `on_expiry` once it has passed; moving it later, as each request does, is cheap."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._at = self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether something is due."""
        return self._at < math.inf

    def set(self, seconds: float) -> None:
        """Move the deadline to so many seconds from now."""
        self._at = self._loop.time() + seconds
        if self._at < self._timer_at:
            self._start_timer()

    def unset(self) -> None:
        """Lift the deadline."""
        self._at = math.inf

    def cancel(self) -> None:
        """Lift the deadline for good, and let go of the timer."""
        self.unset()
        if self._timer:
            self._timer.cancel()

    def _start_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_at = self._at
        self._timer = self._loop.call_at(self._at, self._check)

    def _check(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._loop.time() >= self._at:
            self.unset()
            self._on_expiry()
        elif self.is_set:
            self._start_timer()
