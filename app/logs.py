"""Structured logs on stdout: ours and every library's in the same shape."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # images, headers, keys
)
_SHED: Final = frozenset({429, 503})
_SHED_EVERY_S: Final = 1.0


class AccessLog:
    """One line a request; of those that are shed, one a second and status, with a count.

    Under overload most requests are refused: a line for each would cost more than the refusal, and
    hide all others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logger = logging.getLogger("access")
        self._next: dict[int, float] = {}
        self._unlogged: Counter[int] = Counter()

    def tell(self, status: int, fields: Mapping[str, Any]) -> None:
        """Log a request; `unlogged` tells how many of its status had no line since the last one."""
        extra = {**fields, "status": status}
        if status in _SHED:
            now = self._clock()
            if now < self._next.get(status, now):
                self._unlogged[status] += 1
                return
            self._next[status] = now + _SHED_EVERY_S
            if unlogged := self._unlogged.pop(status, 0):
                extra["unlogged"] = unlogged
        self._logger.info("request", extra=extra)


def configure_logs(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send everything that is logged in this process to stdout.

    Args:
        log_format: `auto` is `console` on a terminal, else `json`, one object a line.
        level: the lowest level that is shown.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    renderers: list[Processor] = (
        [_escape_event, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
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


def _escape_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The renderer escapes values, but not the sentence: it must stay one line, without orders."""
    text = str(event.get("event", ""))
    if not text.isprintable():
        event["event"] = ascii(text)[1:-1]
    return event
