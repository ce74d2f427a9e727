"""Queues log records for a thread that writes them, so that logging never waits."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Final, Self

from app.telemetry.run_within import run_within

_MAX_RECORDS: Final = 4096
_GATHER_S: Final = 0.02
"""How long lines gather after one was written, in seconds: a wake-up for each would cost more than
the line itself."""
_CLOSE_S: Final = 1.0

_log = logging.getLogger(__name__)


class LogQueue(QueueHandler):
    """Use as a context manager: leaving it writes what is queued, for a second at most.

    Whatever reads this process's output may stall. A record that finds the queue full, or that
    cannot be written, is dropped and counted.

    Args:
        file: descriptor that lines are written to.
        formatter: makes a line of a record.
        max_records: that may be queued.

    Attributes:
        on_drop: called for each record that is dropped.
    """

    def __init__(
        self, file: int, formatter: logging.Formatter, max_records: int = _MAX_RECORDS
    ) -> None:
        # Unlike Queue, it may be entered again by a signal handler that logs.
        self._records: SimpleQueue[logging.LogRecord] = SimpleQueue()
        super().__init__(self._records)
        self.on_drop: Callable[[], object] = lambda: None
        self._max_records = max_records
        self._dropped = 0
        writer = _Writer(file, self)
        writer.setFormatter(formatter)
        self._listener = _GatheringListener(self._records, writer)

    def __enter__(self) -> Self:
        """Start to write."""
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is queued, and stop."""
        self.stop()

    def stop(self) -> None:
        """Write what is queued, for a second at most, and stop."""
        run_within(_CLOSE_S, self._listener.stop)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record alone: the default would format its traceback into its message."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        if self._records.qsize() < self._max_records:
            self._records.put_nowait(record)
        else:
            self.drop()

    def drop(self) -> None:
        """Count a record that is not written."""
        self._dropped += 1
        self.on_drop()

    def report_dropped(self) -> None:
        """Log how many records were dropped since the last report, if any were."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("Dropped %d log lines, because nobody read them.", dropped)


class _GatheringListener(QueueListener):
    queue: SimpleQueue[logging.LogRecord]

    def handle(self, record: logging.LogRecord) -> None:
        super().handle(record)
        if self.queue.empty():
            time.sleep(_GATHER_S)


class _Writer(logging.Handler):
    """Writes each record at once, as a whole line.

    A text stream would keep what it could not write, and try it again with every line.
    """

    def __init__(self, file: int, queue: LogQueue) -> None:
        super().__init__()
        self._file = file
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            while line:
                line = line[os.write(self._file, line) :]
        except Exception:  # noqa: BLE001  # logging must not raise, whatever was logged
            self._queue.drop()
        else:
            self._queue.report_dropped()
