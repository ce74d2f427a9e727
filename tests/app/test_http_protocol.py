"""The limits of a connection: over a fake transport and clock, and over real sockets."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio.lowlevel
import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.http_protocol import HttpProtocol, create_http_protocol
from app.logs import AccessLog
from app.metrics import Metrics
from app.settings import Settings
from app.uvicorn_fit import UnfitUvicornError
from tests.app.test_middleware import connect, read_all
from tests.conftest import LiveServer, serve
from tests.fakes import FakeLoop, FakeTransport

pytestmark = pytest.mark.anyio

MEBI = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class App:
    """Answers with what it was sent: `/early` unread, `/held` when it may, `/watching` never."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.left = 0
        self.gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", scope["path"] != "/early"
        while more:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body += message["body"]
            more = message["more_body"] or scope["path"] == "/watching"
        if scope["path"] == "/held":
            await self.gate.wait()
        length = str(len(body)).encode()
        headers = [(b"content-length", length)]
        if scope["query_string"] == b"close":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Connection:
    """One client's end of a protocol over a fake transport."""

    def __init__(self, *, state: ServerState | None = None, max_connections: int = 10) -> None:
        self.app = App()
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.metrics = Metrics()
        config = uvicorn.Config(self.app, ws="none", log_config=None, lifespan="off")
        self.protocol = HttpProtocol(
            settings=Settings(
                header_timeout_s=5, body_timeout_s=15, write_timeout_s=20, keep_alive_s=30
            ),
            max_connections=max_connections,
            metrics=self.metrics,
            access_log=AccessLog(),
            config=config,
            server_state=state or ServerState(),
            app_state={},
            _loop=self.loop,
        )
        self.protocol.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        self.protocol.data_received(data)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", self.transport.written)]

    @property
    def code(self) -> str:
        (code,) = re.findall(rb'"code":"(\w+)"', self.transport.written)
        return str(code, "ascii")

    @property
    def open(self) -> bool:
        return not self.transport.ended


@pytest.fixture
async def connection() -> Connection:
    return Connection()


# Time


async def test_a_client_that_sends_nothing_is_closed_without_a_word(connection: Connection) -> None:
    connection.loop.advance(4.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["close"]
    assert connection.transport.written == b""


async def test_headers_that_trickle_are_a_request_timeout(connection: Connection) -> None:
    for byte in GET[:9]:
        await connection.send(bytes([byte]))
        connection.loop.advance(0.5)
    assert connection.open
    connection.loop.advance(0.5)
    assert (connection.statuses, connection.code) == ([408], "request_timeout")
    assert b"connection: close" in connection.transport.written
    connection.loop.advance(1)
    assert connection.transport.ended == ["write_eof", "close"]


async def test_every_request_has_its_own_time_for_headers(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.loop.advance(20)
    await connection.send(GET)
    connection.loop.advance(4.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.statuses == [200, 408]


async def test_blank_lines_do_not_keep_a_connection(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    for _ in range(10):
        await connection.send(b"\r\n")
        connection.loop.advance(0.5)
    assert not connection.open


async def test_a_pipelined_head_has_time_while_an_answer_is_due(connection: Connection) -> None:
    await connection.send(GET.replace(b"/", b"/held", 1) + b"\r\n" + GET)
    connection.loop.advance(60)
    assert connection.open
    connection.app.gate.set()
    await connection.send(b"\r\n")
    assert connection.statuses == [200, 200]


async def test_an_idle_connection_is_closed(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.loop.advance(29.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["close"]
    assert connection.statuses == [200]


async def test_a_connection_needs_no_new_timer_for_a_request(connection: Connection) -> None:
    for _ in range(1000):
        await connection.send(GET + b"\r\n")
    assert connection.loop.timers == 1


async def test_nothing_goes_off_when_the_client_has_left(connection: Connection) -> None:
    connection.protocol.connection_lost(None)
    assert connection.loop.waiting == 0


async def test_a_client_that_never_reads_is_cut_off(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.transport.unread = 16 * MEBI
    connection.protocol.pause_writing()
    connection.loop.advance(19.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["abort"]


async def test_a_client_that_reads_slowly_may_go_on(connection: Connection) -> None:
    await connection.send(GET.replace(b"/", b"/held", 1) + b"\r\n")
    for left in range(16, 0, -1):
        connection.transport.unread = left * MEBI
        if left == 16:
            connection.protocol.pause_writing()
        connection.loop.advance(19.9)
        assert connection.open
    connection.transport.unread = 0
    connection.protocol.resume_writing()
    connection.loop.advance(100)
    assert connection.open


async def test_a_client_that_has_read_has_its_whole_time_again(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    for _ in range(2):
        connection.transport.unread = MEBI
        connection.protocol.pause_writing()
        connection.loop.advance(12)
        connection.transport.unread = 1000
        connection.protocol.resume_writing()
    assert connection.open


@pytest.mark.parametrize("last", ["idle", "eof", "close"])
async def test_what_nobody_reads_does_not_keep_a_connection_that_closes(
    connection: Connection, last: str
) -> None:
    connection.transport.unread = 100
    if last == "eof":
        connection.protocol.eof_received()
    elif last == "close":
        await connection.send(GET.replace(b"/", b"/?close", 1) + b"\r\n")
    else:
        await connection.send(GET + b"\r\n")
        connection.loop.advance(30)
    connection.loop.advance(20)
    assert connection.transport.ended[-1] == "abort"


# An answer before the end of the body


async def test_the_rest_of_a_body_is_passed_over_and_the_connection_kept(
    connection: Connection,
) -> None:
    await connection.send(POST.replace(b"/", b"/early", 1) + b"Content-Length: 1000\r\n\r\nhalf")
    await connection.send(b"x" * 996)
    connection.loop.advance(29.9)
    await connection.send(GET + b"\r\n")
    assert connection.statuses == [200, 200]
    connection.loop.advance(30)
    assert connection.transport.ended == ["close"]


async def test_the_rest_of_a_body_must_be_short(connection: Connection) -> None:
    head = POST.replace(b"/", b"/early", 1)
    await connection.send(head + b"Content-Length: 1000000000\r\n\r\n")
    for _ in range(16):
        await connection.send(bytes(65_536))
    assert connection.open
    await connection.send(b"x")
    assert connection.transport.ended == ["abort"]


async def test_the_rest_of_a_body_must_come_in_time(connection: Connection) -> None:
    await connection.send(POST.replace(b"/", b"/early", 1) + b"Content-Length: 1000\r\n\r\nhalf")
    for _ in range(15):
        assert connection.open
        connection.loop.advance(1)
        await connection.send(b"x")
    assert connection.transport.ended == ["close"]


@pytest.mark.parametrize("ending", ["silence", "flood"])
async def test_a_client_that_is_still_sending_can_read_the_last_answer(
    connection: Connection, ending: str
) -> None:
    head = POST.replace(b"/", b"/early?close", 1)
    await connection.send(head + b"Content-Length: 1000000000\r\n\r\n")
    assert connection.statuses == [200]
    assert connection.transport.ended == ["write_eof"]
    await connection.send(bytes(MEBI))
    assert connection.transport.ended == ["write_eof"]
    if ending == "flood":
        await connection.send(b"x")
    else:
        connection.loop.advance(1)
    assert connection.transport.ended == ["write_eof", "abort" if ending == "flood" else "close"]


# Sizes and framing


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (GET + b"A: " + b"x" * 16_384 + b"\r\n\r\n", 431, "headers_too_large"),
        (GET + b"A: " + b"x" * 300_000, 431, "headers_too_large"),
        (GET + b"A: x\r\n" * 100 + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"x" * 4096, 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (GET + b"Host: x\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: a/?x=\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400, "malformed_request"),
        (b"GET /\r\n\r\n", 400, "malformed_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 400, "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "malformed_request"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "malformed_request"),
        (
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "malformed_request",
        ),
        (POST.replace(b"1.1", b"1.0") + CHUNKED + b"0\r\n\r\n", 400, "malformed_request"),
        (POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n", 400, "malformed_request"),
        (POST + CHUNKED + b"zz\r\n", 400, "malformed_request"),
        (POST + CHUNKED + b"1\r\nx\r\n" * 10_000, 400, "malformed_request"),
        (POST + CHUNKED + b"5;" + b"x" * 100_000 + b"\r\nhello\r\n", 400, "malformed_request"),
        (POST + CHUNKED + b"0\r\nA: " + b"x" * 100_000, 400, "malformed_request"),
    ],
)
async def test_a_request_beyond_a_limit_is_refused_and_the_connection_closed(
    connection: Connection, data: bytes, status: int, code: str
) -> None:
    await connection.send(data)
    assert (connection.statuses, connection.code) == ([status], code)
    assert b"connection: close" in connection.transport.written
    assert b"x-request-id" in connection.transport.written
    await connection.send(GET + b"\r\n")
    assert len(connection.statuses) == 1
    connection.loop.advance(1)
    assert connection.transport.ended == ["write_eof", "close"]
    refused = {"code": code}
    value = connection.metrics.registry.get_sample_value("mobilenet_refusals_total", refused)
    assert value == 1


@pytest.mark.parametrize(
    "data",
    [
        GET + b"A: " + b"x" * 16_360 + b"\r\n\r\n",
        GET + b"A: x\r\n" * 99 + b"\r\n",
        b"GET /" + b"x" * 4095 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: my_service.ns\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n",
        POST + CHUNKED + (b"200\r\n" + bytes(512) + b"\r\n") * 20_000 + b"0\r\n\r\n",
    ],
)
async def test_a_request_within_the_limits_is_answered(connection: Connection, data: bytes) -> None:
    for start in range(0, len(data), 10_000):
        await connection.send(data[start : start + 10_000])
    assert connection.statuses == [200]


async def test_many_small_requests_in_one_go_are_not_one_big_head(connection: Connection) -> None:
    await connection.send((GET + b"\r\n") * 2000 + GET)
    for _ in range(2000):
        await anyio.lowlevel.checkpoint()
    assert connection.statuses == [200] * 2000


async def test_trailers_are_nobodys_headers(connection: Connection) -> None:
    await connection.send(POST.replace(b"/", b"/held", 1) + CHUNKED)
    await connection.send(b"1\r\nx\r\n0\r\nX-Request-ID: evil\r\n\r\n")
    (scope,) = connection.app.scopes
    assert scope["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("broken", [POST + CHUNKED + b"zz\r\n", b"garbage\r\n\r\n"])
async def test_a_refusal_waits_for_the_answers_that_are_due(
    connection: Connection, broken: bytes
) -> None:
    held = GET.replace(b"/", b"/held", 1) + b"\r\n"
    await connection.send(held * 2 + broken)
    await connection.send(b"more")
    assert connection.statuses == []
    connection.app.gate.set()
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert connection.statuses == [200, 200, 400]
    assert len(connection.app.scopes) == 2


async def test_a_client_that_leaves_ends_the_answer_before_a_pipelined_request(
    connection: Connection,
) -> None:
    watching = GET.replace(b"/", b"/watching", 1) + b"\r\n"
    await connection.send(watching + GET + b"\r\n")
    connection.protocol.connection_lost(None)
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert connection.app.left == 1
    assert [scope["path"] for scope in connection.app.scopes] == ["/watching"]


async def test_a_broken_body_ends_its_request(connection: Connection) -> None:
    await connection.send(POST + CHUNKED)
    await connection.send(b"zz\r\n")
    assert connection.statuses == [400]
    assert connection.app.left == 1


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_a_wish_for_another_protocol_is_passed_over(
    connection: Connection, protocol: bytes
) -> None:
    head = POST + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nContent-Length: 5\r\n\r\n"
    await connection.send(head + b"hello" + head + b"wor")
    await connection.send(b"ld" + GET + b"\r\n")
    assert connection.statuses == [200, 200, 200]
    assert [line for line in (b"hello", b"world") if line in connection.transport.written]
    assert [scope["method"] for scope in connection.app.scopes] == ["POST", "POST", "GET"]


async def test_one_connection_too_many_is_turned_away() -> None:
    state = ServerState()
    first, second = (Connection(state=state, max_connections=1) for _ in range(2))
    assert first.open
    assert (second.statuses, second.code) == ([429], "overloaded")
    assert b"retry-after: 1" in second.transport.written
    assert second.transport.ended == ["close"]


def test_a_uvicorn_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Any, data: bytes) -> None: ...

    create_http_protocol(Settings(), Metrics())
    monkeypatch.setattr(HttpToolsProtocol, "on_body", changed)
    with pytest.raises(UnfitUvicornError, match=r"HttpToolsProtocol\.on_body has no body"):
        create_http_protocol(Settings(), Metrics())


# Over real sockets


def test_an_upload_that_is_far_too_large_gets_its_answer(live_server: LiveServer) -> None:
    with connect(live_server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 60000000\r\n\r\n" + bytes(500_000)
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_a_client_that_never_reads_is_closed_over_a_real_socket() -> None:
    with serve(write_timeout_s=0.1) as server, connect(server) as connection:
        connection.settimeout(0)
        request = b"GET /labels HTTP/1.1\r\nHost: x\r\n\r\n"

        def is_gone() -> bool:
            try:
                connection.send(request)
            except BlockingIOError:
                return False
            except OSError:
                return True
            return False

        server.wait_for(is_gone)
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 0)


def test_slow_headers_are_answered_and_closed_over_a_real_socket() -> None:
    with serve(header_timeout_s=0.1) as server:
        with connect(server) as silent, connect(server) as slow:
            slow.sendall(b"GET / HT")
            assert read_all(silent) == b""
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        refused = {"route": "unmatched", "status": "408"}
        assert server.metric("mobilenet_requests_total", **refused) == 1


def test_a_broken_body_is_counted_once_and_as_what_it_was_told(live_server: LiveServer) -> None:
    def count(status: str, route: str = "/embed") -> float:
        return live_server.metric("mobilenet_requests_total", route=route, status=status)

    before = [count("400"), count("client_closed"), count("400", "unmatched")]
    with connect(live_server) as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" + CHUNKED + b"zz\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") == 0)
    after = [count("400"), count("client_closed"), count("400", "unmatched")]
    assert after == [before[0] + 1, *before[1:]]


def test_an_upgrade_to_http_2_is_an_ordinary_upload(live_server: LiveServer, cat: bytes) -> None:
    with connect(live_server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n"
            b"Content-Length: " + str(len(cat)).encode() + b"\r\n\r\n" + cat
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
