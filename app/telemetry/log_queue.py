"""Queues log records for a thread that writes them, so that logging never waits."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Self

_MAX_RECORDS: Final = 4096
_GATHER_S: Final = 0.02
"""How long lines gather after one was written, in seconds: a wake-up for each would cost more than
the line itself."""
_CLOSE_S: Final = 1.0

_log = logging.getLogger(__name__)


class LogQueue(logging.Handler):
    """Use as a context manager: leaving it writes what is queued, for a second at most.

    Whatever reads from the file descriptor may stall. A record that finds the queue full, or that
    cannot be written, is dropped and counted, and `on_drop` is called.
    """

    def __init__(
        self, file: int, formatter: logging.Formatter, max_records: int = _MAX_RECORDS
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.on_drop: Callable[[], object] = lambda: None
        self._file = file
        self._max_records = max_records
        self._dropped = 0
        # Unlike Queue, it may be entered again by a signal handler that logs.
        self._records: SimpleQueue[logging.LogRecord | str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        """Start to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is queued, and stop."""
        self.stop()

    def stop(self) -> None:
        """Write what is queued, for a second at most, and stop."""
        self._records.put_nowait(None)
        self._thread.join(_CLOSE_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        if self._records.qsize() >= self._max_records:
            self._drop()
            return
        try:
            # A traceback's frames hold images: only its text may wait.
            self._records.put_nowait(self.format(record) if record.exc_info else record)
        except Exception:  # noqa: BLE001  # logging must not raise, whatever was logged
            self._drop()

    def _drop(self) -> None:
        self._dropped += 1
        self.on_drop()

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            self._write(record)
            if self._records.empty():
                time.sleep(_GATHER_S)

    def _write(self, record: logging.LogRecord | str) -> None:
        """Write a record at once: a text stream would try again what it could not write."""
        try:
            text = record if isinstance(record, str) else self.format(record)
            line = f"{text}\n".encode(errors="backslashreplace")
            while line:
                line = line[os.write(self._file, line) :]
        except Exception:  # noqa: BLE001  # logging must not raise, whatever was logged
            self._drop()
            return
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("Dropped %d log lines, because nobody read them.", dropped)
