"""Clients that leave, over real sockets."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.app.inference.test_sharing import occupy
from tests.conftest import serve
from tests.corpus.server import Watched, watch
from tests.fakes import FakeEngine
from tests.image_files import uniform
from tests.reliability.length import shortened
from tests.reliability.load import create_request
from tests.reliability.pinned import CLASSIFY, counts

pytestmark = pytest.mark.reliability


def test_a_hundred_clients_that_leave_while_queued_are_never_computed(
    fake_engine: FakeEngine,
) -> None:
    images = [uniform(7) + bytes([number]) for number in range(100)]  # else they were one
    with serve(max_batch_size=4, queue_ms=60_000) as server, ThreadPoolExecutor(4) as pool:
        occupy(server, fake_engine, pool)
        held = server.batcher.admission.work
        clients = [server.connect() for _ in range(100)]
        for client, image in zip(clients, images, strict=True):
            client.sendall(create_request("/classify", image))
        server.wait_for(lambda: server.batcher.waiting == 100)
        for client in clients:
            client.close()
        server.wait_for(lambda: server.batcher.waiting == 0)
        server.wait_for(lambda: server.batcher.admission.work == pytest.approx(held))
        fake_engine.gate.set()
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 0)
        closed = {"route": "/classify", "status": "client_closed"}
        assert server.metric("mobilenet_requests_total", **closed) == 100
    assert 7 not in fake_engine.computed


def test_a_client_that_leaves_while_its_batch_runs_does_not_hurt_its_neighbours(
    fake_engine: FakeEngine,
) -> None:
    fake_engine.streams = 1
    url = "{}/classify?top_k=1"
    with serve(max_batch_size=4) as server, ThreadPoolExecutor(8) as pool:
        occupy(server, fake_engine, pool)
        neighbours = [
            pool.submit(httpx2.post, url.format(server.url), files={"file": uniform(value)})
            for value in (1, 2, 3)
        ]
        with server.connect() as leaver:
            leaver.sendall(create_request("/classify", uniform(7)))
            server.wait_for(lambda: server.batcher.waiting == 4)
            fake_engine.gate.set()
            fake_engine.entered.acquire()
            fake_engine.hold()
        answers = [neighbour.result() for neighbour in neighbours]
        assert [answer.status_code for answer in answers] == [200] * 3
        fake_engine.gate.set()
        assert httpx2.post(f"{server.url}/classify", files={"file": uniform(9)}).is_success


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watch() as server:
        yield server
        server.check()
        server.check_log()


@pytest.mark.slow
def test_a_thousand_clients_that_leave_mid_upload_leave_no_trace(watched: Watched) -> None:
    files, threads = watched.files(), watched.threads()
    for number in range(1000):
        with socket.create_connection(watched.address) as client:
            client.sendall(CLASSIFY[number % 3][: 200 + 80 * number])
    time.sleep(1)
    assert watched.files() <= files + 1
    assert watched.threads() <= threads + 1


def read_answer(connection: socket.socket) -> None:
    file = connection.makefile("rb")
    left = 0
    while (line := file.readline()) not in {b"\r\n", b""}:
        name, _, value = line.lower().partition(b":")
        left = int(value) if name == b"content-length" else left
    assert file.read(left)
    file.close()


@pytest.mark.slow
def test_each_of_fifty_thousand_requests_has_one_outcome(watched: Watched) -> None:
    """Good ones, bad ones, and clients that leave at any moment, more than there is room for."""
    total = shortened(50_000)
    bad = create_request("/classify", b"no image")
    before = counts(watched)

    def client(seed: int) -> int:
        chance = random.Random(seed)  # noqa: S311  # the same chaos each time
        sent = 0
        connection = socket.create_connection(watched.address, timeout=30)
        for _ in range(total // 32):
            request = chance.choice([*CLASSIFY, bad, bad, bad])
            connection.sendall(request)
            sent += 1
            if chance.random() < 0.2:  # leaves without an answer
                connection.close()
                connection = socket.create_connection(watched.address, timeout=30)
                continue
            read_answer(connection)
        connection.close()
        return sent

    with ThreadPoolExecutor(32) as pool:
        sent = sum(pool.map(client, range(32)))
    time.sleep(2)
    after = counts(watched)
    seen = {status: int(after[status] - before.get(status, 0)) for status in after}
    print(f"  {sent} sent, {seen}")  # noqa: T201  # `-s` asks for it
    assert sum(seen.values()) == sent
    assert set(seen) <= {"200", "415", "429", "client_closed"}
