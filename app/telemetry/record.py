"""Collects what is learnt of one request, for its metrics and its log line."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from app.telemetry.metrics import UNMATCHED

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Record:
    """One request's facts; handed from the middleware to the route and on to the service.

    Attributes:
        request_id: as the client is told it.
        started: when the headers were here, by `time.perf_counter`.
        sent: when the response began, on the same clock; None: it never did.
        answer_bytes: of the response's body.
        route: path of the image route, as declared; for a request refused before routing.
        refused_with: status of the server's own answer to a broken body; None: there was none.
        timed: whether the duration says anything; that of a live stream is its reader's choice.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    sent: float | None = None
    answer_bytes: int = 0
    route: str = UNMATCHED
    refused_with: int | None = None
    timed: bool = True
    _asked: float | None = field(init=False, default=None)
    _answered: float | None = field(init=False, default=None)
    _facts: dict[str, Any] = field(init=False, default_factory=dict)

    def asked(self, model: str, images: int, image_bytes: int) -> None:
        """Mark that the body is parsed: so many images, of so many bytes, for that model."""
        self._asked = time.perf_counter()
        self._facts = {"model": model, "images": images, "image_bytes": image_bytes}

    def answered(self, **facts: object) -> None:
        """Mark that the images are done, one at least with an answer; the log has the facts."""
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


def create_request_id() -> str:
    """Create an id of 128 bits; the system's randomness would cost a call that yields the GIL."""
    return f"{random.getrandbits(128):032x}"  # an id need not be unguessable


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the client's own id if it is harmless, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return create_request_id()


def open_record(scope: Any) -> Record:
    """Return the record in a request's ASGI scope; the first to ask puts it there."""
    state: dict[str, Any] = scope.setdefault("state", {})
    record: Record | None = state.get("record")
    if record is None:
        record = state["record"] = Record(choose_request_id(scope["headers"]))
    return record
