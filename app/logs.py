"""Structured logs on stdout: ours and every library's in the same shape."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.errors import OverloadedError

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # images, headers, keys
)


_PAUSE_S = 1.0


class AccessLog:
    """One line a request; of refusals at most one a second, which counts those without a line.

    A line costs a third of what a refusal does, and under overload nobody would read them.

    Args:
        now: monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._log = logging.getLogger("access")
        self._now = now
        self._next = 0.0
        self._unlogged = 0

    def write(self, **fields: Any) -> None:
        """Tell of a request that was answered, whose `status` is among the fields."""
        if fields["status"] == OverloadedError.status:
            if (now := self._now()) < self._next:
                self._unlogged += 1
                return
            fields["unlogged"] = self._unlogged
            self._next, self._unlogged = now + _PAUSE_S, 0
        self._log.info("request", extra=fields)


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send everything that is logged in this process to stdout.

    Args:
        log_format: `auto` is `console` on a terminal, else `json`, one object a line.
        level: the lowest level that is shown.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
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
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a bad form has its own line
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback


def _drop_color_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Uvicorn says everything twice, once in colours."""
    event.pop("color_message", None)
    return event
