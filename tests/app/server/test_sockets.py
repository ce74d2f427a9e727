"""The limits of a connection over real sockets."""

from __future__ import annotations

from tests.app.api.middleware.test_request_context import read_all
from tests.app.server.test_connection import CHUNKED
from tests.conftest import LiveServer, serve


def test_an_upload_that_is_far_too_large_gets_its_answer(live_server: LiveServer) -> None:
    with live_server.connect() as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 60000000\r\n\r\n" + bytes(500_000)
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_slow_headers_are_answered_and_closed_over_a_real_socket() -> None:
    with serve(header_timeout_s=0.5) as server:
        with server.connect() as silent, server.connect() as slow:
            slow.sendall(b"GET / HT")
            assert read_all(silent) == b""
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        refused = {"route": "unmatched", "status": "408"}
        assert server.metric("mobilenet_requests_total", **refused) == 1


def test_a_broken_body_is_counted_once_and_as_what_it_was_told(live_server: LiveServer) -> None:
    def count(status: str, route: str = "/embed") -> float:
        return live_server.metric("mobilenet_requests_total", route=route, status=status)

    before = [count("400"), count("client_closed"), count("400", "unmatched")]
    with live_server.connect() as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" + CHUNKED + b"zz\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") == 0)
    after = [count("400"), count("client_closed"), count("400", "unmatched")]
    assert after == [before[0] + 1, *before[1:]]
