"""Configures structured logs on stdout: ours and every library's in the same shape."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from app.telemetry.escape import escape
from app.telemetry.log_queue import LogQueue

_NO_EXTRA: Final = frozenset((*vars(logging.makeLogRecord({})), "color_message"))
"""What every record has; the last is uvicorn's copy of the message in colours."""


class _Formatter(logging.Formatter):
    """Gives structlog's renderers a record with the time it was made, not that of writing it."""

    def __init__(self, *renderers: Processor) -> None:
        super().__init__()
        self._renderers = renderers

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        event: Any = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **{name: value for name, value in vars(record).items() if name not in _NO_EXTRA},
            "timestamp": time.replace("+00:00", "Z"),
        }
        if record.exc_info:
            event["exc_info"] = record.exc_info
        for render in self._renderers:
            event = render(None, record.levelname, event)
        return str(event)


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> LogQueue:
    """Send all that is logged to stdout, once the queue is entered; JSON has one object a line."""
    # If stdout is closed, its descriptor soon belongs to another file or even a connection.
    file = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY)
    terminal = os.isatty(file)
    console = log_format == "console" or (log_format == "auto" and terminal)
    renderers: list[Processor] = (
        [_escape_event, structlog.dev.ConsoleRenderer(colors=terminal)]
        if console
        # Local variables hold images, headers and keys.
        else [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), JSONRenderer()]
    )
    queue = LogQueue(file, _Formatter(*renderers))
    # No line has them, and to find them takes longer than to queue it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(handlers=[queue], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a bad form has its own line
    return queue


def _escape_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape the message; the renderer escapes only the values."""
    event["event"] = escape(str(event.get("event", "")))
    return event
