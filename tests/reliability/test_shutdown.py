"""Signals under load: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

import pytest

from tests.app.server.test_uvicorn_server import Process, start
from tests.corpus.row import CAT
from tests.reliability.callers import LOST, REFUSED, Caller, Calls
from tests.reliability.length import shortened

pytestmark = [pytest.mark.reliability]

_IMAGE = CAT.read_bytes()
_HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
)

_CALLERS = 16
_REQUESTS = [_HEAD % (len(_IMAGE) + 1) + _IMAGE + bytes([number]) for number in range(_CALLERS)]
"""The same cat, with a byte behind its end: equal images in flight would be one image."""
_STALLED = _HEAD % 1000 + b"half"
_READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
_LOAD_S = 1.0


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


async def measure_capacity(host: str, port: int) -> float:
    """Answers a second when every caller asks again at once."""
    calls = Calls()
    callers = [Caller(host, port, request, 0, keep_alive=True) for request in _REQUESTS]
    tasks = [asyncio.create_task(caller.run(calls, 0)) for caller in callers]
    await asyncio.sleep(2 * _LOAD_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for caller in callers:
        caller.close()
    return calls.outcomes[200] / (2 * _LOAD_S)


async def readiness_red_after(host: str, port: int) -> float:
    """Ask until it is red, or nobody listens; seconds from now."""
    since = time.monotonic()
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return time.monotonic() - since
        writer.write(_READY)
        status = (await reader.readline()).split()[1]
        writer.close()
        if status == b"503":
            return time.monotonic() - since


async def stop_under_load(
    process: Process, rate: float, signals: Sequence[signal.Signals], stalled: int
) -> tuple[Calls, float, float, int]:
    """What became of the calls, when readiness was red, when it was over, uploads told of it."""
    host, port = address(process.ready())
    uploads = [await asyncio.open_connection(host, port) for _ in range(stalled)]
    for _, writer in uploads:
        writer.write(_STALLED)
    calls = Calls()
    every_s = _CALLERS / rate
    tasks = []
    for number, request in enumerate(_REQUESTS):
        caller = Caller(host, port, request, every_s, keep_alive=number % 2 == 0)
        tasks.append(asyncio.create_task(caller.run(calls, every_s * number / _CALLERS)))
    await asyncio.sleep(_LOAD_S)
    since = time.monotonic()
    process.process.send_signal(signals[0])
    red_s = await readiness_red_after(host, port)
    for sig in signals[1:]:
        process.process.send_signal(sig)
    await asyncio.gather(*tasks)
    answers = await asyncio.gather(*(reader.read() for reader, _ in uploads))
    for _, writer in uploads:
        writer.close()
    code = await asyncio.to_thread(process.end)
    assert code == 0
    assert "Traceback" not in "".join(process.lines)
    told = sum(b'"code":"shutting_down"' in answer for answer in answers)
    return calls, red_s, time.monotonic() - since, told


def check(calls: Calls) -> None:
    assert calls.outcomes[LOST] == 0, calls.lost
    assert set(calls.outcomes) <= {200, REFUSED, LOST}
    assert calls.outcomes[200] > 0
    assert len(calls.answers) == 1


@pytest.mark.thorough
def test_a_stop_under_load_with_stalled_uploads_loses_no_answer() -> None:
    with start("--shutdown-timeout-s", "2") as process:
        calls, _, _, told = asyncio.run(stop_under_load(process, 20, [signal.SIGTERM], 5))
    check(calls)
    assert told == 5


@pytest.fixture(scope="module")
def capacity() -> float:
    """Answers a second."""
    with start() as process:
        return asyncio.run(measure_capacity(*address(process.ready())))


@pytest.mark.slow
@pytest.mark.parametrize("stop", range(1, 1 + shortened(20)))
def test_a_stop_at_80_percent_of_capacity_with_fifty_stalled_uploads_loses_no_answer(
    capacity: float, stop: int
) -> None:
    with start() as process:
        calls, red_s, end_s, told = asyncio.run(
            stop_under_load(process, 0.8 * capacity, [signal.SIGTERM], 50)
        )
    print(  # noqa: T201  # the figures
        f"stop {stop} at {0.8 * capacity:.0f}/s: {dict(calls.outcomes)}, "
        f"red after {red_s:.3f} s, ended after {end_s:.2f} s"
    )
    check(calls)
    assert told == 50
    assert red_s <= 0.1
    assert end_s <= 8


@pytest.mark.slow
def test_without_stalled_uploads_the_end_comes_soon_after_the_last_answer() -> None:
    with start() as process:
        calls, _, end_s, _ = asyncio.run(stop_under_load(process, 40, [signal.SIGTERM], 0))
    check(calls)
    assert end_s <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)],
    ids=["twice", "INT then TERM"],
)
def test_a_second_signal_under_load_loses_no_answer(signals: Sequence[signal.Signals]) -> None:
    with start() as process:
        calls, _, _, _ = asyncio.run(stop_under_load(process, 40, signals, 0))
    check(calls)


@pytest.mark.slow
def test_new_connections_are_answered_until_the_drain_is_over() -> None:
    with start("--drain-s", "2", "--shutdown-timeout-s", "8") as process:
        calls, red_s, end_s, _ = asyncio.run(stop_under_load(process, 40, [signal.SIGTERM], 0))
    check(calls)
    assert red_s <= 0.1
    assert 2 <= end_s <= 8
    assert calls.outcomes[200] >= 40 * 2
