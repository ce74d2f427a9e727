"""Logs requests."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

ACCESS: Final = "access"
"""The logger's name."""
_SHED: Final = frozenset({429, 503})
_SHED_EVERY_S: Final = 1.0


class AccessLog:
    """Writes a line for each request; of those that are shed, one a second and status.

    Under overload most requests are refused, and their lines would hide all others. The level says
    whom a line concerns: an error is the service's, a warning says that requests are shed, and what
    a client did wrong is information.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._logger = logging.getLogger(ACCESS)
        self._next: dict[int, float] = {}
        self._unlogged: Counter[int] = Counter()

    def log(self, status: int, fields: Mapping[str, Any]) -> None:
        """Log a request; `unlogged` counts those of its status that had no line since the last."""
        extra = {**fields, "status": status}
        if status in _SHED:
            now = self._now()
            if now < self._next.get(status, now):
                self._unlogged[status] += 1
                return
            self._next[status] = now + _SHED_EVERY_S
            if unlogged := self._unlogged.pop(status, 0):
                extra["unlogged"] = unlogged
        level = _level(status)
        if self._logger.isEnabledFor(level):
            # `Logger.log` would first look for its caller and the thread.
            extra |= {"name": ACCESS, "levelno": level, "levelname": logging.getLevelName(level)}
            self._logger.handle(logging.makeLogRecord({**extra, "msg": "request"}))


def _level(status: int) -> int:
    if status in _SHED:
        return logging.WARNING
    return logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
