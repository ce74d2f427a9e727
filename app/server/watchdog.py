"""Ends a process that hangs, so that its orchestrator restarts it.

Threads cannot be killed, and not every orchestrator restarts a container that answers its health
check with red. `faulthandler` would also end a process that was stopped and goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, Self

_INTERVAL_S = 1.0
_MAX_GAP_S = 2 * _INTERVAL_S
"""Counted of the time between two checks: if there is more, the whole process did not run."""


class Watch(NamedTuple):
    """A kind of work that must not hang.

    Attributes:
        symptom: the start of the sentence that is logged: it is followed by "for 10 s".
        limit_s: how long one task may take, in seconds.
        running: lists the tasks that are running, each by a key of its own.
    """

    symptom: str
    limit_s: float
    running: Callable[[], Iterable[Hashable]]


class Watchdog:
    """Use as a context manager: its thread checks once a second until the block ends.

    Only time in which the process ran counts: one that was stopped and goes on has not hung, nor
    has a machine that slept.

    Args:
        watches: the work to check.
        on_hang: called in the thread with the reason, as a sentence.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        on_hang: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._on_hang = on_hang
        self._now = now
        self._checked = now()
        self._awake_s = 0.0
        self._since: dict[tuple[Watch, Hashable], float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._stopping.set()
        self._thread.join()

    def check(self) -> str | None:
        """Return why the process must end, if it must."""
        now = self._now()
        self._awake_s += min(now - self._checked, _MAX_GAP_S)
        self._checked = now
        running = [(watch, task) for watch in self._watches for task in watch.running()]
        self._since = {key: self._since.get(key, self._awake_s) for key in running}
        for (watch, _), since in self._since.items():
            if self._awake_s - since >= watch.limit_s:
                return f"{watch.symptom} for {watch.limit_s:g} s: exiting to be restarted."
        return None

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_S):
            if reason := self.check():
                self._on_hang(reason)
                return
