"""Configures structured logs on stdout: ours and every library's in the same shape."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from app.telemetry.escape import escape
from app.telemetry.log_queue import LogQueue


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> LogQueue:
    """Send everything that is logged in this process to stdout, once the queue is entered.

    Args:
        log_format: `auto` is `console` on a terminal, else `json`, one object a line.
        level: the lowest level that is shown.
    """
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
    formatter = ProcessorFormatter(
        foreign_pre_chain=[
            add_log_level,
            add_logger_name,
            ExtraAdder(),
            TimeStamper(fmt="iso", utc=True),
        ],
        processors=[ProcessorFormatter.remove_processors_meta, _drop_color_message, *renderers],
    )
    queue = LogQueue(file, formatter)
    logging.basicConfig(handlers=[queue], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a bad form has its own line
    return queue


def _drop_color_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop the copy of the message in colours that uvicorn adds."""
    event.pop("color_message", None)
    return event


def _escape_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape the message; the renderer escapes only the values."""
    event["event"] = escape(str(event.get("event", "")))
    return event
