"""A server on one core and its load on another, so that neither takes the other's time."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from tests.conftest import IMAGES
from tests.corpus.server import Watched, watch
from tests.reliability.load import create_request

_T = TypeVar("_T")

_COPIES = 128
"""Of each photo, with bytes behind its end: equal ones in flight would be one image."""
PHOTOS = [path.read_bytes() for path in sorted(IMAGES.glob("*.jpg"))]
CLASSIFY = [
    create_request("/classify", photo + number.to_bytes(2, "big"))
    for number in range(_COPIES)
    for photo in PHOTOS
]
# In turns, one kind of photo might always come when there is room, and another never.
random.Random(5).shuffle(CLASSIFY)  # noqa: S311  # reproducible, not secret


@contextmanager
def serve_pinned(*flags: str, **env: str) -> Iterator[Watched]:
    """A server on the first core; the calling thread is on the last one meanwhile."""
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        with watch(*flags, **env) as server:
            os.sched_setaffinity(0, {max(cores)})
            yield server
    finally:
        os.sched_setaffinity(0, cores)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run the load; uvloop takes half of what asyncio's own loop does for it.

    Without the garbage collector, which would hold it up for longer than a refusal takes.
    """
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()


def counts(server: Watched) -> dict[str, float]:
    """What the server says of the requests that it has had at /classify, by status."""
    seen = {}
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith('mobilenet_requests_total{route="/classify"'):
            labels, value = line.rsplit(" ", 1)
            seen[labels.split('status="')[1].rstrip('"}')] = float(value)
    return seen


async def core_share(server: Watched, seconds: float) -> float:
    """How much of its core a server has for so long, without the first second.

    A busy one has all of it, unless there are other processes on this machine.
    """
    first = min(1.0, seconds / 4)
    await asyncio.sleep(first)
    before = processor_s(server.pid)
    await asyncio.sleep(seconds - first)
    return (processor_s(server.pid) - before) / (seconds - first)


def processor_s(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
