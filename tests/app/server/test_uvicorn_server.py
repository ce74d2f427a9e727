"""The process as a user starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from model.engines.base import EngineOutput
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

SERVE = [sys.executable, "-m", "app", "serve"]


class Process:
    """A server in a process of its own, and what it has logged so far."""

    def __init__(self, *flags: str, program: str | None = None, **env: str) -> None:
        command = [sys.executable, "-c", program, "serve"] if program else SERVE
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--log-format", "json", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        pytest.fail(f"ended without {text!r}: {self.lines}")

    def ready(self) -> str:
        """Wait until it is; returns its URL."""
        found = re.search(r"http://[\d.:]+", self.read_until("Uvicorn running on"))
        self.read_until("Ready after")
        assert found
        return found.group()

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self.process.stdout
        self.lines += self.process.stdout.readlines()
        return self.process.wait(timeout=30)


@contextmanager
def start(*flags: str, program: str | None = None, **env: str) -> Iterator[Process]:
    server = Process(*flags, program=program, **env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        if server.process.stdout:
            server.process.stdout.close()


def fails_to_start(*flags: str, **env: str) -> tuple[int, str]:
    with start(*flags, **env) as server:
        code = server.end()
        assert "Traceback" not in "".join(server.lines)
        return code, "".join(server.lines)


def try_to_start(**settings: Any) -> int:
    """Serve in this process what ends by itself; returns the exit code."""
    with serve(**settings) as server:
        pass
    return server.server.exit_code


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "copy")


def test_a_signal_ends_it_with_code_zero_after_the_answers_in_flight() -> None:
    program = """
import threading
import app.server.uvicorn_server
from model.engines.onnx.engine import OnnxEngine
stopping = threading.Event()
run = OnnxEngine.run
def run_once_stopping(self, pixels, *args, **kwargs):
    if pixels[0, 0, 0, 0] == 13:
        stopping.wait()
    return run(self, pixels, *args, **kwargs)
OnnxEngine.run = run_once_stopping
class Server(app.server.uvicorn_server.Server):
    def _stop(self):
        super()._stop()
        stopping.set()
app.server.uvicorn_server.Server = Server
from app.cli.main import main
main()
"""
    with start(program=program) as server, ThreadPoolExecutor(4) as pool:
        url = server.ready()
        images = [uniform(13) + bytes([number]) for number in range(4)]
        calls = [
            pool.submit(httpx2.post, f"{url}/classify", files={"file": image}) for image in images
        ]
        while "in_flight_requests 5" not in httpx2.get(f"{url}/metrics").text:
            assert not any(call.done() for call in calls)
        server.process.send_signal(signal.SIGTERM)
        assert [call.result().status_code for call in calls] == [200] * 4
        assert server.end() == 0
    assert not [line for line in server.lines if "Traceback" in line or '"error"' in line]


@pytest.mark.thorough
def test_readiness_turns_red_and_requests_are_answered_until_the_drain_is_over(cat: bytes) -> None:
    with (
        start("--drain-s", "300", "--shutdown-timeout-s", "600") as server,
        httpx2.Client(base_url=server.ready(), timeout=30) as client,
    ):
        server.process.send_signal(signal.SIGTERM)
        while client.get("/readyz").status_code == 200:
            pass
        assert client.get("/livez").status_code == 200
        assert client.post("/classify", files={"file": cat}).status_code == 200
        server.process.send_signal(signal.SIGTERM)  # which ends the drain
        assert server.end() == 0


@pytest.mark.thorough
def test_every_log_line_is_json_and_a_request_has_one(cat: bytes) -> None:
    with start(MOBILENET_TYPO="1") as server:
        url = server.ready()
        httpx2.post(f"{url}/classify", files={"file": cat}, headers={"X-Request-ID": "one"})
        httpx2.get(f"{url}/%0a%1b[31m")
        server.process.send_signal(signal.SIGINT)
        assert server.end() == 0
    lines = [json.loads(line) for line in server.lines]
    requests = [line for line in lines if line["logger"] == "access"]
    assert len(requests) == 2
    assert requests[0]["request_id"] == "one"
    assert (requests[0]["path"], requests[0]["status"]) == ("/classify", 200)
    assert all("\x1b" not in line for line in server.lines)
    warnings = [line["event"] for line in lines if line["level"] == "warning"]
    assert warnings == ["MOBILENET_TYPO is set, but there is no such setting."]


def test_a_taken_port_ends_the_start_and_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = fails_to_start("--port", str(port))
    assert code != 0
    assert str(port) in output


@pytest.mark.parametrize(
    ("flags", "env", "named"),
    [
        ([], {"MOBILENET_QUEUE_MS": "-5"}, "MOBILENET_QUEUE_MS"),
        (["--max-batch-size", "0"], {}, "--max-batch-size"),
        (["--host", "nonsense.invalid"], {}, "MOBILENET_HOST (--host): not an address or a name"),
        (["--host", "a" * 64], {}, "MOBILENET_HOST (--host): not an address or a name"),
        (["--host", "192.0.2.1"], {}, "MOBILENET_HOST (--host): not an address of this machine"),
    ],
)
def test_a_bad_setting_ends_the_start_with_one_line_that_names_it(
    flags: list[str], env: dict[str, str], named: str
) -> None:
    result = CliRunner().invoke(app, ["serve", "--models", "nowhere", *flags], env=env)
    assert result.exit_code == 2
    assert named in result.output
    assert result.output.count("\n") == 1


def test_a_missing_checkpoint_ends_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert try_to_start(models=str(tmp_path / "nowhere")) == 1
    assert "nowhere" in caplog.text


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", ('"relu6"', '"selu"'), "selu"),
        ("preprocessor_config.json", ("{", '{"do_pad": true,'), "do_pad"),
    ],
)
def test_what_the_engine_or_the_preprocessing_cannot_honour_is_refused_by_name(
    copy: Path, caplog: pytest.LogCaptureFixture, file: str, change: tuple[str, str], named: str
) -> None:
    config = copy / file
    config.write_text(config.read_text().replace(*change, 1))
    (copy / "SHA256SUMS").unlink()
    assert try_to_start(models=str(copy)) == 1
    assert named in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.thorough
def test_stalled_uploads_cannot_hold_up_the_end() -> None:
    with start("--shutdown-timeout-s", "2") as server:
        host, port = server.ready().removeprefix("http://").split(":")
        stalled = [socket.create_connection((host, int(port)), timeout=30) for _ in range(20)]
        for connection in stalled:
            connection.sendall(
                b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nhalf"
            )
        while "in_flight_requests 21" not in httpx2.get(f"http://{host}:{port}/metrics").text:
            pass
        server.process.send_signal(signal.SIGTERM)
        answers = [connection.makefile("rb").read() for connection in stalled]
        assert server.end() == 0
        for connection in stalled:
            connection.close()
    assert all(b'"code":"shutting_down"' in answer for answer in answers)
    assert not [line for line in server.lines if "Traceback" in line]


@pytest.mark.thorough
def test_a_signal_ends_a_process_whose_engine_hangs() -> None:
    program = """
import sys, threading
import app.inference.engines
from model.engines.onnx.engine import OnnxEngine
class Hanging(OnnxEngine):
    hangs = False
    def run(self, pixels, *args, **kwargs):
        if pixels[0, 0, 0, 0] == 13:
            threading.Event().wait()
        return super().run(pixels, *args, **kwargs)
app.inference.engines.load_engine = lambda checkpoint, **_: Hanging(checkpoint, 1)
from app.cli.main import main
main()
"""
    with start("--request-timeout-s", "0.2", program=program) as server:
        url = server.ready()
        answer = httpx2.post(f"{url}/classify", files={"file": uniform(13)})
        assert answer.status_code == 504
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.thorough
def test_a_signal_while_loading_ends_the_process() -> None:
    program = """
import threading
import app.inference.engines
app.inference.engines.load_model = lambda *_: threading.Event().wait()
from app.cli.main import main
main()
"""
    with start(program=program) as server:
        server.read_until("Uvicorn running on")
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    assert not [line for line in server.lines if "Ready after" in line]


def test_an_engine_that_fails_its_self_test_is_never_ready(
    fake_engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(output: EngineOutput) -> EngineOutput:
        output.pooled[:] = np.nan
        return output

    fake_engine.shape = spoil
    assert try_to_start() == 1
    assert "self-test" in caplog.text
    assert "Ready after" not in caplog.text


@pytest.mark.thorough  # it says something only where torch is installed
def test_serving_does_not_import_torch(cat: bytes) -> None:
    program = """
import sys, httpx2
from tests.conftest import serve
with serve() as server:
    image = sys.stdin.buffer.read()
    answer = httpx2.post(server.url + '/classify', files={'file': image})
    assert answer.status_code == 200
unwanted = {'torch', 'transformers', 'tensorboard'}
print(sorted(unwanted & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=cat, capture_output=True, check=True
    )
    assert done.stdout.splitlines()[-1] == b"[]"
