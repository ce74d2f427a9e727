"""Bounds the memory of images that are decoded at the same time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIXEL_BYTES = 12
"""Peak memory of a pixel in the most expensive format, WebP: two canvases and the output."""


class MemoryBudget:
    """Admits reservations while their sum stays within the budget.

    Attributes:
        free: bytes that nobody has reserved.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.free = most
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Wait until `count` bytes are free and hold them; more than the budget takes all of it."""
        count = min(count, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self.free >= count)
            self.free -= count
        try:
            yield
        finally:
            with self._changed:
                self.free += count
                self._changed.notify_all()
