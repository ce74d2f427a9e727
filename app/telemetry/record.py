"""Collects what is learnt of one request, for its metrics and its log line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Record:
    """One request's facts; handed from the middleware to the route and on to the service.

    Attributes:
        request_id: as the client is told it.
        started: when the headers were here, by `time.perf_counter`.
        sent: when the response began, on the same clock; None: it never did.
        answer_bytes: of the response's body.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    sent: float | None = None
    answer_bytes: int = 0
    _asked: float | None = field(init=False, default=None)
    _answered: float | None = field(init=False, default=None)
    _facts: dict[str, Any] = field(init=False, default_factory=dict)

    def asked(self, model: str, images: int, image_bytes: int) -> None:
        """Mark that the body is parsed: so many images, of so many bytes, for that model."""
        self._asked = time.perf_counter()
        self._facts = {"model": model, "images": images, "image_bytes": image_bytes}

    def answered(self, **facts: object) -> None:
        """Mark that every image has an answer or an error; the facts go into the log line."""
        self._answered = time.perf_counter()
        self._facts |= facts

    @property
    def read_s(self) -> float | None:
        """Time spent reading and parsing the body, in seconds."""
        return None if self._asked is None else self._asked - self.started

    @property
    def encode_s(self) -> float | None:
        """Time from the last image's answer to the response's start, in seconds."""
        if self._answered is None or self.sent is None:
            return None
        return self.sent - self._answered

    def fields(self) -> dict[str, Any]:
        """Return the fields of the log line; times are in milliseconds."""
        fields = {**self._facts, "answer_bytes": self.answer_bytes}
        for name, seconds in (("read_ms", self.read_s), ("encode_ms", self.encode_s)):
            if seconds is not None:
                fields[name] = round(seconds * 1000, 2)
        return fields
