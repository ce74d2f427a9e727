"""Keeps the outputs of images that come again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import numpy as np

from app.inference.answers import Outputs, Stages
from app.inference.plan import Plan

Key = tuple[Hashable, Plan]
"""An image or its digest, and what is computed of it."""

_ENTRY_BYTES: Final = 2048
"""What an entry takes besides its numbers, at most."""
_NO_TIME: Final = Stages(0.0, 0.0, 0.0)


class ResultCache:
    """A least-recently-used cache of outputs, bounded in bytes; may be used from several threads.

    Args:
        max_bytes: of all entries together; 0 keeps nothing.

    Attributes:
        size: bytes that are kept now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self._entries: OrderedDict[Key, tuple[Outputs, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Outputs | None:
        """Look up outputs, read-only."""
        with self._lock:
            if entry := self._entries.get(key):
                self._entries.move_to_end(key)
                return entry[0]
        return None

    def put(self, key: Key, outputs: Outputs) -> None:
        """Keep a copy, unless it is larger than the whole cache."""
        size = _ENTRY_BYTES + sum(array.nbytes for array in outputs.arrays.values())
        if size > self.max_bytes:
            return
        # A row is a view, which would keep its whole batch.
        copies = {name: np.array(array) for name, array in outputs.arrays.items()}
        kept = Outputs(copies, _NO_TIME, outputs.batch_size, outputs.source, "hit").protect()
        with self._lock:
            if key in self._entries:
                self.size -= self._entries.pop(key)[1]
            self._entries[key] = kept, size
            self.size += size
            while self.size > self.max_bytes:
                self.size -= self._entries.popitem(last=False)[1][1]
