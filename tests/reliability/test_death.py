"""A process that is killed, stopped, hung or broken: what its clients see, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.app.server.test_uvicorn_server import Process, start
from tests.corpus.row import CAT
from tests.image_files import uniform
from tests.reliability.pinned import processor_s

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

_MAIN = """
app.server.watchdog._INTERVAL_S = 0.05
from app.cli.main import main
main()
"""
_ENGINE = (
    """
import threading
import app.server.uvicorn_server, app.server.watchdog
from model.engines.onnx.engine import OnnxEngine
run = OnnxEngine.run
def spoiled(self, pixels, *args, **kwargs):
    if (pixels[:, 0, 0, 0] == 13).any():
        SPOIL
    return run(self, pixels, *args, **kwargs)
OnnxEngine.run = spoiled
app.server.uvicorn_server._MIN_HANG_S = 3
"""
    + _MAIN
)


def classify(url: str, image: bytes, timeout_s: float = 60) -> httpx2.Response:
    return httpx2.post(f"{url}/classify", files={"file": image}, timeout=timeout_s)


def last_words(process: Process) -> str:
    """The one line that says why it ended itself."""
    assert process.end() == os.EX_SOFTWARE
    assert not [line for line in process.lines if line.startswith(("Traceback", "Fatal"))]
    (line,) = [line for line in process.lines if '"critical"' in line]
    event: str = json.loads(line)["event"]
    return event


def test_a_hung_engine_costs_504s_while_health_answers_and_then_the_process() -> None:
    program = _ENGINE.replace("SPOIL", "threading.Event().wait()")
    with (
        start("--request-timeout-s", "1", program=program) as process,
        ThreadPoolExecutor(8) as pool,
        httpx2.Client(base_url=process.ready()) as client,
    ):
        since = time.monotonic()
        calls = [pool.submit(classify, str(client.base_url), uniform(13)) for _ in range(8)]
        slowest_s = 0.0
        while not all(call.done() for call in calls):
            asked = time.monotonic()
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code in {200, 503}
            slowest_s = max(slowest_s, time.monotonic() - asked)
        assert time.monotonic() - since <= 1.5
        assert [call.result().status_code for call in calls] == [504] * 8
        assert slowest_s <= 0.5
        while client.get("/readyz").status_code == 200:
            pass
        assert last_words(process).startswith("A batch has been running for 3 s")
        assert time.monotonic() - since <= 3 + 1.5


def test_an_event_loop_that_stands_still_ends_the_process() -> None:
    program = (
        """
import threading
import app.server.uvicorn_server, app.server.watchdog
tick = app.server.uvicorn_server.Server.on_tick
async def hang(self, counter):
    ended = await tick(self, counter)
    if self.lifecycle.ready.is_set():
        threading.Event().wait()
    return ended
app.server.uvicorn_server.Server.on_tick = hang
app.server.uvicorn_server._MAX_LOOP_STALL_S = 1
"""
        + _MAIN
    )
    with start(program=program) as process:
        process.ready()
        since = time.monotonic()
        assert last_words(process).startswith("The event loop has stood still for 1 s")
        assert time.monotonic() - since <= 2.5


def test_an_engine_that_fails_on_everything_ends_the_process_unless_it_recovers() -> None:
    program = _ENGINE.replace("SPOIL", "raise RuntimeError('CUDA error: the device is lost')")
    with start("--request-timeout-s", "1", program=program) as process:
        url = process.ready()
        for _ in range(5):
            assert classify(url, uniform(13)).status_code == 500
        assert httpx2.get(f"{url}/readyz").status_code == 503
        assert classify(url, uniform(1)).status_code == 200
        assert httpx2.get(f"{url}/readyz").status_code == 200
        for _ in range(5):
            assert classify(url, uniform(13)).status_code == 500
        used_s = processor_s(process.process.pid)
        time.sleep(2)
        assert processor_s(process.process.pid) - used_s <= 0.2  # it does not try again and again
        assert last_words(process).startswith("The engine has failed on every batch for 3 s")


def test_a_process_that_was_stopped_goes_on() -> None:
    with start() as process, ThreadPoolExecutor(4) as pool:
        url = process.ready()
        golden = classify(url, CAT.read_bytes()).json()["predictions"]
        process.process.send_signal(signal.SIGSTOP)
        calls = [pool.submit(classify, url, CAT.read_bytes()) for _ in range(4)]
        time.sleep(12)  # longer than the event loop may stand still
        process.process.send_signal(signal.SIGCONT)
        answers = [call.result() for call in calls]
        assert {answer.status_code for answer in answers} <= {200, 504}
        time.sleep(3)
        assert process.process.poll() is None
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert classify(url, CAT.read_bytes()).json()["predictions"] == golden
        process.process.send_signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_killed_process_leaves_nothing_and_its_successor_is_ready_soon(tmp_path: Path) -> None:
    with start(TMPDIR=str(tmp_path)) as process, ThreadPoolExecutor(8) as pool:
        url = process.ready()
        calls = [pool.submit(classify, url, CAT.read_bytes()) for _ in range(64)]
        calls[8].result()
        process.process.kill()
        assert process.end() == -signal.SIGKILL
        for call in calls:
            call.exception()
    assert not list(tmp_path.iterdir())
    since = time.monotonic()
    with start("--port", url.rpartition(":")[2]) as successor:
        assert successor.ready() == url
        took_s = time.monotonic() - since
        assert classify(url, CAT.read_bytes()).status_code == 200
    print(f"ready again after {took_s:.2f} s")  # noqa: T201  # the figure
    assert took_s <= 3


def test_a_reader_of_the_log_that_stops_reading_stops_nobody() -> None:
    with start() as process, httpx2.Client(base_url=process.ready()) as client:
        path = "/" + "x" * 4000
        while "log_lines_dropped_total 0.0" in client.get("/metrics").text:
            for _ in range(200):
                assert client.get(path).status_code == 404
        assert client.get("/readyz").status_code == 200
        answer = client.post("/classify", files={"file": CAT.read_bytes()})
        assert answer.status_code == 200
        since = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(timeout=30) == 0
        assert time.monotonic() - since <= 8


def test_weights_that_are_replaced_on_disk_have_no_effect(tmp_path: Path) -> None:
    copy = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "copy")
    with start("--models", str(copy)) as process:
        url = process.ready()
        answers = []
        for _ in range(2):
            digest = httpx2.get(f"{url}/info").json()["models"][0]["digest"]
            layers = httpx2.post(f"{url}/embed?layer=3&output_stride=8", files={"file": uniform(9)})
            answers.append(
                (
                    digest,
                    classify(url, CAT.read_bytes()).json()["predictions"],
                    layers.json()["dim"],
                )
            )
            os.truncate(copy / "model.safetensors", 1000)  # where a mapped file would end it
        assert answers[0] == answers[1]


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_jumps_expires_nothing(step_s: int) -> None:
    program = f"""
import itertools, time
real, jumps = time.time, itertools.count()
time.time = lambda: real() + {step_s} * (next(jumps) % 2)
from app.cli.main import main
main()
"""
    with start(program=program) as process, httpx2.Client(base_url=process.ready()) as client:
        for _ in range(50):
            answer = client.post(
                "/classify",
                files={"file": CAT.read_bytes()},
                headers={"X-Request-Timeout-Ms": "1000"},
            )
            assert answer.status_code == 200
            assert 0 <= answer.json()["timing_ms"]["total"] <= 1000
