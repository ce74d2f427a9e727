from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx2
import pytest

from app.api.middleware.body import HeldBytes
from app.errors import OverloadedError
from tests.conftest import LiveServer, serve


def connect(server: LiveServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


@pytest.mark.parametrize("path", ["/livez", "/classify", "/nothing"])
def test_every_answer_has_a_request_id_of_its_own(client: httpx2.Client, path: str) -> None:
    ids = {client.get(path).headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


def test_a_harmless_request_id_is_kept(client: httpx2.Client, cat: bytes) -> None:
    headers = {"X-Request-ID": "trace-1.a_B"}
    answer = client.post("/classify", files={"file": cat}, headers=headers)
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "trace-1.a_B"


@pytest.mark.parametrize("value", [b"a b", b"x" * 129, b"\xff\xfe", b"<script>", b""])
def test_another_request_id_is_replaced(client: httpx2.Client, value: bytes) -> None:
    answer = client.get("/livez", headers=[(b"X-Request-ID", value)])
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers.get_list("X-Request-ID") == [answer.headers["X-Request-ID"]]


def test_a_body_that_does_not_arrive_in_time_is_a_request_timeout() -> None:
    with serve(body_timeout_s=0.1) as server, connect(server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nhalf"
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert b"connection: close" in answer.lower()


def test_a_client_that_leaves_mid_upload_leaves_no_trace(
    live_server: LiveServer, client: httpx2.Client
) -> None:
    closed = {"route": "/embed", "status": "client_closed"}
    before = live_server.metric("mobilenet_requests_total", **closed)
    for _ in range(20):
        with connect(live_server) as connection:
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nhalf"
            )
            live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") > 0)
        live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") == 0)
    assert live_server.metric("mobilenet_requests_total", **closed) == before + 20
    assert live_server.batcher.admission.work == 0
    assert client.get("/readyz").status_code == 200


def test_a_stalled_upload_holds_no_place_in_the_queue(live_server: LiveServer) -> None:
    with connect(live_server) as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nhalf"
        )
        live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") > 0)
        assert live_server.batcher.admission.work == 0


def test_a_connection_outlives_a_bad_picture(client: httpx2.Client, cat: bytes) -> None:
    with httpx2.Client(base_url=client.base_url) as one:
        statuses = [
            one.post("/classify", files={"file": image}).status_code for image in (b"bad", cat)
        ]
    assert statuses == [415, 200]


def test_bodies_of_many_images_leave_room_for_those_of_one() -> None:
    held = HeldBytes(800)
    with (
        held.share(of_many=True) as many,
        held.share(of_many=True) as more,
        held.share(of_many=False) as one,
    ):
        many.take(400)
        more.take(300)
        with pytest.raises(OverloadedError):
            more.take(1)
        one.take(100)
        with pytest.raises(OverloadedError):
            one.take(1)
    with held.share(of_many=False) as one:
        one.take(800)


@pytest.mark.thorough
def test_all_bodies_together_hold_no_more_than_twice_the_largest(cat: bytes) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    stalled = head + b"Content-Length: 209000\r\n\r\n" + bytes(208_000)
    with (
        serve(max_body_mib=0.2, max_batch_body_mib=0.2) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):

        def ask() -> httpx2.Response:
            return client.post("/classify", files={"file": cat})

        def ask_beside_stalled_uploads() -> httpx2.Response | None:
            """Its refusal; none where an upload was refused before, for it met an asked one."""
            with ExitStack() as uploads:
                for _ in range(2):
                    uploads.enter_context(connect(server)).sendall(stalled)
                answers = (ask() for _ in range(20))
                return next((answer for answer in answers if answer.status_code == 429), None)

        refused = next(filter(None, (ask_beside_stalled_uploads() for _ in range(20))))
        assert refused.json()["code"] == "overloaded"
        assert refused.headers["Retry-After"] == "1"
        assert any(ask().status_code == 200 for _ in range(1000))
