"""What many tests share: the default checkpoint, the photos, and a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.server import Server
from app.settings import Settings
from model.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint

IMAGES = Path(__file__).parent / "images"


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

    def __init__(self, settings: Settings) -> None:
        self.server = Server(settings)
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        serving = asyncio.create_task(self.server.serve())
        loaded = asyncio.create_task(self.server.lifecycle.ready.wait())
        await asyncio.wait({serving, loaded}, return_when=asyncio.FIRST_COMPLETED)
        loaded.cancel()
        self.loop = asyncio.get_running_loop()
        self._up.set()
        await serving

    def start(self) -> None:
        self._thread.start()
        self._up.wait()

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        host, port = self.server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    server = LiveServer(Settings(port=0, log_level="error"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(live_server: LiveServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=live_server.url, timeout=30) as client:
        yield client
