"""When a client must have sent or read something: two deadlines, one timer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadlines:
    """The deadlines of one connection.

    A deadline that moves later, as it does with every request, leaves the timer alone: the timer
    looks again when it goes off.

    Args:
        loop: whose time it is.
        on_read: called when the client has sent too late; its deadline is gone then.
        on_write: the same for reading.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_read: Callable[[], None],
        on_write: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._on_read = on_read
        self._on_write = on_write
        self._read_by = self._write_by = self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def reading(self) -> bool:
        """Whether the client must send something."""
        return self._read_by < math.inf

    @property
    def writing(self) -> bool:
        """Whether the client must read something."""
        return self._write_by < math.inf

    def set_read(self, seconds: float) -> None:
        """Give the client so long to send; infinity for as long as it likes."""
        self._read_by = self._loop.time() + seconds
        if self._read_by < self._timer_at:
            self._arm()

    def set_write(self, seconds: float) -> None:
        """Give the client so long to read."""
        self._write_by = self._loop.time() + seconds
        if self._write_by < self._timer_at:
            self._arm()

    def stop(self) -> None:
        """Forget both."""
        self._read_by = self._write_by = math.inf
        if self._timer:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_at = min(self._read_by, self._write_by)
        self._timer = self._loop.call_at(self._timer_at, self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._loop.time()
        if now >= self._write_by:
            self._write_by = math.inf
            self._on_write()
        if now >= self._read_by:
            self._read_by = math.inf
            self._on_read()
        if min(self._read_by, self._write_by) < self._timer_at:
            self._arm()
