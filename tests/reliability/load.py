"""Requests, and what came of those that a load sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

BROKEN = 0
"""In place of a status: the connection ended, or could not be had, before an answer was read."""


def create_request(path: str, body: bytes = b"", *headers: str) -> bytes:
    """A POST of an image, or a GET where there is no body."""
    method = "POST" if body else "GET"
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines += ["Content-Type: image/jpeg", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    Attributes:
        status: of HTTP, or BROKEN.
        latency_s: from when it was due until its answer's last byte.
        at: when that was, in seconds since the load began.
        retry_after: the header's seconds; 0 without it.
    """

    status: int
    latency_s: float
    at: float
    retry_after: int


@dataclass(slots=True)
class Load:
    """What a load saw.

    Attributes:
        seconds: for which requests were sent.
        answers: one for each request, in the order in which they came.
        late_s: how late the generator itself was at most.
    """

    seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    late_s: float = 0.0

    @property
    def statuses(self) -> Counter[int]:
        """How many answers of each status."""
        return Counter(answer.status for answer in self.answers)

    def goodput(self) -> float:
        """Answers of 2xx a second while requests were sent, without the first second's ramp."""
        first = min(1.0, self.seconds / 4)
        good = sum(
            200 <= answer.status < 300 and first <= answer.at < self.seconds
            for answer in self.answers
        )
        return good / (self.seconds - first)

    def latency_ms(self, status: int, share: float) -> float:
        """The quantile of the latency of answers of one status; 0 where there are none."""
        return quantile([a.latency_s for a in self.answers if a.status == status], share) * 1000


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so great a share is not above; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
