"""Structured logs on stdout: ours and every library's in the same shape."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.log_sink import LogSink

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # images, headers, keys
)


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> LogSink:
    """Send everything that is logged in this process to stdout, once the sink is entered.

    Args:
        log_format: `auto` is `console` on a terminal, else `json`, one object a line.
        level: the lowest level that is shown.
    """
    # Where stdout is closed, its number is soon another file's, a connection's even.
    file = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY)
    terminal = os.isatty(file)
    console = log_format == "console" or (log_format == "auto" and terminal)
    renderers: list[Processor] = (
        [_escape_event, structlog.dev.ConsoleRenderer(colors=terminal)]
        if console
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_color_message,
            *renderers,
        ],
    )
    sink = LogSink(file)
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a bad form has its own line
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    return sink


def _drop_color_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Uvicorn says everything twice, once in colours."""
    event.pop("color_message", None)
    return event


def _escape_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The renderer escapes values, but not the sentence: it must stay one line, without orders."""
    text = str(event.get("event", ""))
    if not text.isprintable():
        event["event"] = ascii(text)[1:-1]
    return event
