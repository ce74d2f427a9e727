"""Ends a process that no longer gets on with its work, for whatever restarts it.

Threads cannot be killed, and not every orchestrator restarts a container that answers its health
check with red.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

_INTERVAL_S = 1.0
"""Between two looks, in seconds."""
_LONGEST_GAP_S = 2 * _INTERVAL_S
"""What counts of the time between two looks: more of it, and the whole process did not run."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Work that must get on.

    Attributes:
        what: one piece of it is, as the log names it.
        limit_s: how long a piece may take, in seconds.
        under_way: the pieces that are being worked at, each by a key of its own.
    """

    what: str
    limit_s: float
    under_way: Callable[[], Iterable[Hashable]]


class Watchdog:
    """Use as a context manager: it looks, in a thread of its own, until it is left.

    It counts the time that it could have looked in itself, and no other: a process that was stopped
    and goes on, a machine that slept, or one too busy for this thread has not hung.

    Args:
        watches: what it looks at.
        end: called with why the process must end, in one sentence.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        end: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._end = end
        self._now = now
        self._seen = now()
        self._awake_s = 0.0
        self._since: dict[tuple[str, Hashable], float] = {}
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        """Start to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._left.set()
        self._thread.join()

    def look(self) -> str | None:
        """Why the process must end, if it must."""
        now = self._now()
        self._awake_s += min(now - self._seen, _LONGEST_GAP_S)
        self._seen = now
        limits = {
            (watch.what, piece): watch.limit_s
            for watch in self._watches
            for piece in watch.under_way()
        }
        self._since = {piece: self._since.get(piece, self._awake_s) for piece in limits}
        for (what, piece), limit_s in limits.items():
            if self._awake_s - self._since[what, piece] >= limit_s:
                return f"{what} for {limit_s:g} s: this process ends, to be started anew."
        return None

    def _run(self) -> None:
        while not self._left.wait(_INTERVAL_S):
            if why := self.look():
                self._end(why)
                return
