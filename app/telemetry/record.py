"""What is learnt of one request on its way through the house, for its metrics and its log line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from app.errors import AppError
from app.inference.answers import Outputs
from app.inference.plan import Image

_current: ContextVar[Record | None] = ContextVar("record", default=None)


class Record:
    """One request's; whoever answers it finds it with `current_record`.

    Attributes:
        started: when its headers were here, by `time.perf_counter`.
        sent: when its answer began, on the same clock; None: it never did.
        answer_bytes: of the answer's body.
    """

    __slots__ = ("_answered", "_asked", "_facts", "answer_bytes", "sent", "started")

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.sent: float | None = None
        self.answer_bytes = 0
        self._asked: float | None = None
        self._answered: float | None = None
        self._facts: dict[str, Any] = {}

    def ask(self, model: str, images: Sequence[Image]) -> None:
        """The images are known, and what answers them; neither they nor answers are kept here."""
        self._asked = time.perf_counter()
        size = sum(len(one) if isinstance(one, bytes) else one.nbytes for one in images)
        self._facts = {"model": model, "images": len(images), "image_bytes": size}

    def answer(self, answers: Sequence[Outputs | AppError]) -> None:
        """All of them are answered."""
        self._answered = time.perf_counter()
        outputs = [answer for answer in answers if isinstance(answer, Outputs)]
        if outputs:
            self._facts |= _describe(outputs)

    @property
    def read_s(self) -> float | None:
        """Reading and parsing the body, in seconds."""
        return None if self._asked is None else self._asked - self.started

    @property
    def encode_s(self) -> float | None:
        """From the last image's answer to the response's start, in seconds."""
        if self._answered is None or self.sent is None:
            return None
        return self.sent - self._answered

    def fields(self) -> dict[str, Any]:
        """What the log line tells of it; of many images, the longest of their stages."""
        fields = {**self._facts, "answer_bytes": self.answer_bytes}
        for name, seconds in (("read_ms", self.read_s), ("encode_ms", self.encode_s)):
            if seconds is not None:
                fields[name] = _ms(seconds)
        return fields


def _describe(outputs: Sequence[Outputs]) -> dict[str, Any]:
    stages = [one.stages for one in outputs]
    facts = {
        "batch_size": max(one.batch_size for one in outputs),
        "decode_ms": _ms(max(one.decode_s for one in stages)),
        "queue_ms": _ms(max(one.queue_s for one in stages)),
        "inference_ms": _ms(max(one.inference_s for one in stages)),
    }
    if len(outputs) > 1:
        return {"answered": len(outputs), **facts}
    (one,) = outputs
    source = one.source
    size = {"width": source.width, "height": source.height}
    return {"format": source.format, **size, "cache": one.cache, **facts}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def open_record() -> Record:
    """Begin one; the server gives each request a context of its own, which now has it."""
    record = Record()
    _current.set(record)
    return record


def current_record() -> Record:
    """That of the request that is being answered; a new one, of nobody, outside of requests."""
    return _current.get() or Record()
