"""What /metrics answers: Prometheus' text format, at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

_PER_S: Final = 10.0
_AT_ONCE: Final = 10.0


class Exposition:
    """Renders a registry ten times a second at most; in between, the last text is given again.

    A rendering takes a millisecond of the event loop or more: who asks all the time would slow
    every answer. Ten in a row are rendered anew, so that what a person or a test asks is fresh.

    Args:
        registry: whose collectors are told.
        now: monotonic clock in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._now = now
        self._seen = now()
        self._left = _AT_ONCE
        self._text = b""

    def render(self) -> bytes:
        """The text, at most a tenth of a second old."""
        now = self._now()
        self._left = min(_AT_ONCE, self._left + (now - self._seen) * _PER_S)
        self._seen = now
        if self._left >= 1:
            self._left -= 1
            self._text = generate_latest(self._registry)
        return self._text
