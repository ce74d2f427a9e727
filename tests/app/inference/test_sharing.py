from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from model.images.decoder import Decoder
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

HELD = 200


def occupy(server: LiveServer, engine: FakeEngine, pool: ThreadPoolExecutor) -> None:
    """Keep every stream in the engine, so that what comes next has to wait."""
    while engine.entered.acquire(blocking=False):
        pass
    engine.hold()
    for number in range(server.batcher.streams):
        image = uniform(HELD + number)
        pool.submit(httpx2.post, f"{server.url}/classify", files={"file": image})
        engine.entered.acquire()


def test_classify_and_embed_share_a_batch(fake_engine: FakeEngine) -> None:
    fake_engine.streams = 1
    with serve(max_batch_size=4) as server, ThreadPoolExecutor(8) as pool:
        occupy(server, fake_engine, pool)
        routes = ["classify", "embed", "classify", "embed"]
        calls = [
            pool.submit(httpx2.post, f"{server.url}/{route}", files={"file": uniform(value)})
            for value, route in enumerate(routes)
        ]
        server.wait_for(lambda: server.batcher.waiting == 4)
        fake_engine.gate.set()
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json()["batch_size"] for answer in answers] == [4] * 4
    assert sorted(fake_engine.batches[-1]) == [0, 1, 2, 3]


def test_images_are_never_decoded_on_the_event_loop(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    decode = Decoder.open

    def watched(self: Decoder, *arguments: Any) -> object:
        threads.append(threading.current_thread().name)
        return decode(self, *arguments)

    with serve() as server:
        monkeypatch.setattr(Decoder, "open", watched)  # only now: loading decodes an image too
        for route in ("classify", "embed", "classify/batch", "embed/batch"):
            answer = httpx2.post(f"{server.url}/{route}", files={"file": uniform(1)})
            assert answer.status_code == 200
    assert len(threads) == 4
    assert all(name.startswith("decode") for name in threads)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(fake_engine: FakeEngine) -> None:
    fake_engine.streams = 1
    with serve(queue_ms=0.001, max_batch_size=1) as server, ThreadPoolExecutor(4) as pool:
        fake_engine.hold()
        while fake_engine.entered.acquire(blocking=False):
            pass
        first = pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(1)})
        fake_engine.entered.acquire()
        refused = httpx2.post(f"{server.url}/classify", files={"file": uniform(2)})
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        assert httpx2.get(f"{server.url}/livez").status_code == 200
        fake_engine.gate.set()
        assert first.result().status_code == 200
        assert server.metric("mobilenet_refusals_total", code="overloaded") == 1
        assert httpx2.post(f"{server.url}/embed", files={"file": uniform(3)}).status_code == 200
    assert 2 not in fake_engine.computed


def test_a_deadline_can_be_lowered_and_what_is_late_is_not_computed(
    fake_engine: FakeEngine,
) -> None:
    with serve(max_batch_size=4) as server, ThreadPoolExecutor(4) as pool:
        occupy(server, fake_engine, pool)
        answer = httpx2.post(
            f"{server.url}/classify",
            files={"file": uniform(7)},
            headers={"X-Request-Timeout-Ms": "50"},
        )
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert server.batcher.waiting == 0
        fake_engine.gate.set()
    assert 7 not in fake_engine.computed


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5"])
def test_a_deadline_that_is_no_positive_number_is_refused(
    client: httpx2.Client, cat: bytes, value: str
) -> None:
    headers = {"X-Request-Timeout-Ms": value}
    answer = client.post("/classify", files={"file": cat}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_a_deadline_cannot_be_raised(fake_engine: FakeEngine) -> None:
    with serve(request_timeout_s=0.05) as server:
        fake_engine.hold()
        headers = {"X-Request-Timeout-Ms": "1000000000000"}
        answer = httpx2.post(f"{server.url}/classify", files={"file": uniform(7)}, headers=headers)
        assert answer.status_code == 504
        fake_engine.gate.set()


def test_a_client_that_leaves_while_queued_is_never_computed(fake_engine: FakeEngine) -> None:
    with serve(max_batch_size=4) as server, ThreadPoolExecutor(4) as pool:
        occupy(server, fake_engine, pool)
        image = uniform(7)
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(image), image)
            )
            server.wait_for(lambda: server.batcher.waiting == 1)
        server.wait_for(lambda: server.batcher.waiting == 0)
        fake_engine.gate.set()
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 0)
        closed = {"route": "/classify", "status": "client_closed"}
        assert server.metric("mobilenet_requests_total", **closed) == 1
        assert server.batcher.admission.work == 0
    assert 7 not in fake_engine.computed
