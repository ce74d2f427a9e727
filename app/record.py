"""What is learnt of one request on its way through the house, for its metrics and its log line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[Record | None] = ContextVar("record", default=None)


class Record:
    """One request's; whoever answers it finds it with `current_record`.

    Attributes:
        started: when its headers were here, by `time.perf_counter`.
        asked: when its images were known, on the same clock; None: they never were.
        answered: when all of them had answers; None: they never had.
        sent: when its answer began.
    """

    __slots__ = ("answered", "asked", "sent", "started")

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.asked: float | None = None
        self.answered: float | None = None
        self.sent: float | None = None
        _current.set(self)  # the server gives each request a context of its own

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute the answers of its images inside."""
        self.asked = time.perf_counter()
        yield
        self.answered = time.perf_counter()

    @property
    def read_s(self) -> float | None:
        """Reading and parsing the body, in seconds."""
        return None if self.asked is None else self.asked - self.started

    @property
    def encode_s(self) -> float | None:
        """From the last image's answer to the response's start, in seconds."""
        if self.answered is None or self.sent is None:
            return None
        return self.sent - self.answered


def current_record() -> Record | None:
    """That of the request that is being answered, if it is one that is."""
    return _current.get()
