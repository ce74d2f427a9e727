"""Bounds the memory of images that are decoded at the same time."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from model.errors import AbandonedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIXEL_BYTES = 12
"""Peak memory of a pixel in the most expensive format, WebP: two canvases and the output."""


class MemoryBudget:
    """Admits reservations while their sum stays within the budget: first come, first served.

    Attributes:
        free: bytes that nobody has reserved.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.free = most
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def reserve(self, count: int, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Wait until `count` bytes are free and hold them; more than the budget takes all of it.

        Args:
            count: bytes.
            is_wanted: asked again whenever `wake` is called.

        Raises:
            AbandonedError: it is no longer wanted.
        """
        count, turn = min(count, self._most), object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(
                    lambda: not is_wanted() or (self._waiting[0] is turn and self.free >= count)
                )
                if not is_wanted():
                    raise AbandonedError("no longer wanted")
                self.free -= count
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.free += count
                self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait ask again whether they are wanted."""
        with self._changed:
            self._changed.notify_all()
