"""How a server ends: by a signal, or because it hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import suppress

import httpx2
import pytest

from app.api.application import create_app
from app.server.uvicorn_server import Server
from app.settings import Settings
from tests.app.api.middleware.test_request_context import read_all
from tests.app.server.test_uvicorn_server import start
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def read_one(connection: socket.socket) -> None:
    """The whole answer to GET."""
    answer = b""
    while not answer.endswith(b'{"status":"alive"}'):
        answer += connection.recv(4096)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_request_that_is_on_its_way_when_the_server_stops_is_answered(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, *, is_new: bool
) -> None:
    """It comes in the very turn of the loop in which the server notices the signal."""
    connections: list[socket.socket] = []

    async def notice(_: int) -> bool:
        if is_new:
            connections.append(server.connect())
        connections[0].sendall(GET)
        return True

    with serve() as server:
        if not is_new:
            connections.append(server.connect())
            connections[0].sendall(GET)
            read_one(connections[0])
        monkeypatch.setattr(server.server, "on_tick", notice)
    with connections[0] as connection:
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


def test_an_app_that_is_not_started_has_no_thread_so_that_a_fork_loses_none() -> None:
    before = set(threading.enumerate())  # other tests' threads may end meanwhile
    create_app(Settings())
    assert set(threading.enumerate()) <= before


def test_a_server_that_has_stopped_refuses_connections(fake_engine: FakeEngine) -> None:
    with serve() as server:
        address = server.address
    with suppress(ConnectionRefusedError):
        socket.create_connection(address).close()
        pytest.fail("somebody listens")


def test_connections_that_never_ask_for_anything_do_not_hold_up_the_end(
    fake_engine: FakeEngine,
) -> None:
    with serve(keep_alive_s=600, header_timeout_s=600) as server:
        idle, silent, half = (server.connect() for _ in range(3))
        idle.sendall(GET)
        read_one(idle)
        half.sendall(GET[:20])
        server.wait_for(lambda: len(server.server.server_state.connections) == 3)
    with idle, silent, half:
        assert [read_all(one)[:12] for one in (idle, silent)] == [b"", b""]
        assert read_all(half)[:12] in {b"", b"HTTP/1.1 408"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_a_second_signal_ends_the_drain_and_loses_no_answers(
    first: signal.Signals, second: signal.Signals
) -> None:
    server = Server(Settings(drain_s=5))
    server.handle_exit(first, None)
    server.handle_exit(second, None)
    assert (server.should_exit, server.force_exit) == (True, False)


def test_a_second_ctrl_c_forces_the_end() -> None:
    server = Server(Settings())
    server.handle_exit(signal.SIGINT, None)
    assert not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit


@pytest.mark.thorough
def test_a_process_whose_engine_hangs_says_so_and_ends_itself() -> None:
    program = """
import threading
import app.server.uvicorn_server, app.server.watchdog
from model.engines.onnx.engine import OnnxEngine
run = OnnxEngine.run
def hang(self, pixels, *args, **kwargs):
    if pixels[0, 0, 0, 0] == 13:
        threading.Event().wait()
    return run(self, pixels, *args, **kwargs)
OnnxEngine.run = hang
app.server.watchdog._INTERVAL_S = 0.05
app.server.uvicorn_server._MIN_HANG_S = 0.5
from app.cli.main import main
main()
"""
    with start("--request-timeout-s", "0.1", program=program) as server:
        url = server.ready()
        # On a busy machine a request may time out before its batch begins: ask until one hangs.
        with suppress(httpx2.TransportError):
            while True:
                response = httpx2.post(f"{url}/classify", files={"file": uniform(13)})
                assert response.status_code == 504
        assert server.end() == os.EX_SOFTWARE
    (line,) = [line for line in server.lines if '"critical"' in line]
    assert json.loads(line)["event"] == (
        "A batch has been running for 0.5 s: exiting to be restarted."
    )
    assert "Traceback" not in "".join(server.lines)
