"""What many tests share: the default checkpoint, the photos, and a real server."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.inference.batcher import DynamicBatcher
from app.server.uvicorn_server import Server
from app.settings import Settings
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint
from tests.declared import Declared
from tests.fakes import FakeEngine

IMAGES = Path(__file__).parent / "images"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--load-seconds", type=float, default=60.0, help="how long each load lasts")
    parser.addoption("--screenshots", default=".screenshots", help="folder of the page's pictures")
    parser.addoption("--readme-picture", action="store_true", help="redraw docs/page.png")


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(100_000, 50, 100)  # there is much to walk, torch and all, and little to find
    os.environ["LOAD_SECONDS"] = str(config.getoption("--load-seconds"))  # before it is imported


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return load_checkpoint(DEFAULT_DIRECTORY)


@pytest.fixture(scope="session")
def cat() -> bytes:
    return (IMAGES / "cat.jpg").read_bytes()


@pytest.fixture(scope="session")
def coffee() -> bytes:
    return (IMAGES / "coffee.jpg").read_bytes()


class LiveServer:
    """A real uvicorn on a free port, in a thread of this process."""

    def __init__(self, settings: Settings, *, wait_until_loaded: bool = True) -> None:
        self.server = Server(settings)
        self._wait_until_loaded = wait_until_loaded
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.server.serve())
        while not (self.server.started or serving.done()):
            await asyncio.sleep(0)
        if self._wait_until_loaded:
            loaded = asyncio.create_task(self.server.lifecycle.ready.wait())
            await asyncio.wait({serving, loaded}, return_when=asyncio.FIRST_COMPLETED)
            loaded.cancel()
        self._up.set()
        await serving

    def start(self) -> None:
        self._thread.start()
        self._up.wait()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Block until a condition holds, asked on the server's event loop.

        Between, the loop rests: it would keep the interpreter from whom the condition waits for.
        """

        async def turn() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(turn(), self.loop).result(timeout=30)

    @property
    def batcher(self) -> DynamicBatcher:
        return self.server.lifecycle.service.batcher

    def metric(self, name: str, **labels: str) -> float:
        value = self.server.lifecycle.metrics.registry.get_sample_value(name, labels)
        return value or 0.0

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.servers[0].sockets[0].getsockname()
        return host, port

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)


@contextmanager
def serve(*, wait_until_loaded: bool = True, **settings: Any) -> Iterator[LiveServer]:
    options = Settings(port=0, log_level="error", **settings)
    server = LiveServer(options, wait_until_loaded=wait_until_loaded)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    with serve() as server:
        yield server


@pytest.fixture
def fake_engine(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """What the next server runs instead of a real engine."""
    engine = FakeEngine(checkpoint)
    monkeypatch.setattr("app.inference.engines.load_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture(scope="session")
def client(live_server: LiveServer) -> Iterator[httpx2.Client]:
    """Asks the shared server; an answer that its route does not declare is an error."""
    hooks = {"response": [Declared().check]}
    with httpx2.Client(base_url=live_server.url, timeout=30, event_hooks=hooks) as client:
        yield client
