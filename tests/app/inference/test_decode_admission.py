from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from app.inference.estimate import Estimate
from app.inference.plan import Plan
from model.images.decoded_image import DecodedImage
from model.images.decoder import Decoder
from model.images.formats.format import EncodedImage
from model.network.config import LOGITS
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform
from tests.model.images.image_files import create_png, png_header

HUGE = create_png(png_header(5000, 5000, colour=6), [])
"""Its header only: it says that it will take a quarter of a second."""

ONE_STREAM: dict[str, Any] = {"threads": 1, "streams": 1, "max_batch_size": 4, "queue_ms": 400}


class Gate:
    """Holds what comes by until it is opened; remembers what came."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.seen: list[bytes] = []

    def hold(self, data: bytes = b"") -> None:
        self.seen.append(data)
        self.entered.release()
        assert self.opened.wait(30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Every client's image waits for it in its decode thread."""
    gate, decode = Gate(), Decoder.open

    @contextmanager
    def held(decoder: Decoder, image: EncodedImage, *arguments: Any) -> Iterator[DecodedImage]:
        gate.hold(image.data)
        with decode(decoder, image, *arguments) as decoded:
            yield decoded

    monkeypatch.setattr(Decoder, "open", held)
    return gate


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine) -> FakeEngine:
    """An engine of 100 images a second, and cores as fast as the table's."""
    multiply_adds = Plan(fake_engine, frozenset({LOGITS})).multiply_adds
    monkeypatch.setattr("app.inference.lifecycle._MULTIPLY_ADDS_PER_S", 100 * multiply_adds)
    monkeypatch.setattr(Estimate, "learn", lambda *_, **__: None)
    return fake_engine


def send(url: str, image: bytes) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(image), image)
    )
    return connection


def test_what_waits_for_decoding_counts_against_the_queue(measured: FakeEngine, gate: Gate) -> None:
    with (
        serve(**ONE_STREAM) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        url = f"{server.url}/classify"
        first = pool.submit(httpx2.post, url, files={"file": HUGE})
        assert gate.entered.acquire(timeout=30)
        assert server.batcher.admission.work == pytest.approx(26, abs=1)
        refused = httpx2.post(url, files={"file": HUGE + b"another"})
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        cat = pool.submit(httpx2.post, url, files={"file": uniform(7)})
        server.wait_for(lambda: server.batcher.admission.work > 27)
        gate.opened.set()
        assert first.result().json()["code"] == "image_truncated"
        assert cat.result().status_code == 200
        assert server.batcher.admission.work == 0


def test_many_large_images_in_one_request_leave_room_for_others(
    measured: FakeEngine, gate: Gate
) -> None:
    with (
        serve(**ONE_STREAM) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        many = [("file", HUGE + bytes([number])) for number in range(8)]
        batch = pool.submit(httpx2.post, f"{server.url}/classify/batch", files=many)
        assert gate.entered.acquire(timeout=30)
        assert server.batcher.admission.work < server.batcher.admission.capacity
        gate.opened.set()
        assert batch.result().json()["code"] == "image_truncated"
    assert len(gate.seen) == 8


def test_an_image_whose_client_left_while_it_waited_for_a_thread_is_never_decoded(
    measured: FakeEngine, gate: Gate
) -> None:
    with (
        serve(**ONE_STREAM) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        first = pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(1)})
        assert gate.entered.acquire(timeout=30)
        held = server.batcher.admission.work
        with send(server.url, uniform(2)):
            server.wait_for(lambda: server.batcher.admission.work > held)
        server.wait_for(lambda: server.batcher.admission.work == pytest.approx(held))
        gate.opened.set()
        assert first.result().status_code == 200
        assert httpx2.post(f"{server.url}/embed", files={"file": uniform(3)}).status_code == 200
    assert gate.seen == [uniform(1), uniform(3)]
