"""Where log lines go: a bounded queue, and a thread that writes what has come together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Self

_ROOM = 4 * 1024 * 1024
"""Characters that may wait to be written."""
_GATHER_S = 0.02
"""How long lines are gathered into one write, in seconds; a wake-up a line would cost more."""
_CLOSE_S = 1.0

_log = logging.getLogger(__name__)


class LogSink:
    """A stream for a logging handler that never blocks who logs.

    Nobody may read what this process writes: when the queue is full, lines are dropped and counted.
    Use as a context manager: leaving it writes what waits, within a second.

    Args:
        file: descriptor of what is written to in the end.
        room: characters that may wait.
    """

    def __init__(self, file: int, room: int = _ROOM) -> None:
        self._file = file
        self._room = room
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self.on_drop: Callable[[int], object] = lambda _: None

    def __enter__(self) -> Self:
        """Start to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, and stop."""
        self.close()

    def close(self) -> None:
        """Write what waits, for a second at most, and stop; may be called again."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def write(self, line: str) -> None:
        """Queue a line, or drop it."""
        with self._changed:
            if fits := self._size + len(line) <= self._room:
                self._lines.append(line)
                self._size += len(line)
                self._changed.notify()
        if not fits:
            self._drop(1)

    def flush(self) -> None:
        """Nothing: a handler calls it after each line."""

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        self.on_drop(lines)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing.is_set())
            self._closing.wait(_GATHER_S)
            with self._changed:
                lines, self._lines, self._size = self._lines, [], 0
            if not lines:
                return
            try:
                self._write_all("".join(lines).encode(errors="backslashreplace"))
            except OSError:  # the reader is gone, or the disk is full
                self._drop(len(lines))
            else:
                self._tell_dropped()

    def _write_all(self, text: bytes) -> None:
        while text:
            text = text[os.write(self._file, text) :]

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("%d log lines were dropped: nobody took them.", dropped)
