"""The limits of a connection over a fake transport: sizes, framing, and their number."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import anyio.lowlevel
import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.page.live import Live
from app.api.parts import Parts
from app.api.routing import RouteTable
from app.inference.lifecycle import Lifecycle
from app.server.connection import HttpProtocol
from app.settings import Settings
from app.telemetry.access_log import AccessLog
from app.telemetry.metrics import Metrics
from tests.fakes import FakeLoop, FakeTransport

pytestmark = pytest.mark.anyio

MEBI = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class App:
    """Answers with what it was sent: `/early` unread, `/held` when it may, `/watching` never.

    `/streaming` has its head at once, and its body when it may.
    """

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
        if scope["path"] == "/streaming":
            body, headers = b"late", [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/streaming":
            await self.gate.wait()
        await send({"type": "http.response.body", "body": body})


def create_parts(settings: Settings) -> Parts:
    metrics, routes = Metrics(), RouteTable([])
    lifecycle = Lifecycle(settings, metrics)
    return Parts(lifecycle, AccessLog(), Live(metrics, ()), routes)


class Connection:
    """One client's end of a protocol over a fake transport."""

    def __init__(
        self,
        *,
        state: ServerState | None = None,
        max_connections: int = 10,
        idle: dict[HttpProtocol, None] | None = None,
        wrap: Callable[[App, Parts], ASGIApp] = lambda app, _: app,
    ) -> None:
        self.app = App()
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.parts = create_parts(
            Settings(header_timeout_s=5, body_timeout_s=15, write_timeout_s=20, keep_alive_s=30)
        )
        self.metrics = self.parts.lifecycle.metrics
        app = wrap(self.app, self.parts)
        config = uvicorn.Config(app, ws="none", log_config=None, lifespan="off")
        self.protocol = HttpProtocol(
            parts=self.parts,
            max_connections=max_connections,
            idle={} if idle is None else idle,
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


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (GET + b"A: " + b"x" * 16_384 + b"\r\n\r\n", 431, "headers_too_large"),
        (GET + b"A: " + b"x" * 300_000, 431, "headers_too_large"),
        (GET + b"A: x\r\n" * 100 + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"x" * 4096, 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: a/?x=\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400, "malformed_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 400, "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "malformed_request"),
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
    small = GET + b"X-Padding: " + bytes(400).replace(b"\0", b"x") + b"\r\n\r\n"
    await connection.send(small * 100 + GET)
    for _ in range(200):
        await anyio.lowlevel.checkpoint()
    assert connection.statuses == [200] * 100


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


async def test_a_connection_without_room_takes_the_place_of_the_one_idle_longest() -> None:
    state, idle = ServerState(), dict[HttpProtocol, None]()
    first, second = (Connection(state=state, max_connections=2, idle=idle) for _ in range(2))
    for one in (first, second, first):
        await one.send(GET + b"\r\n")
    third = Connection(state=state, max_connections=2, idle=idle)
    assert [one.transport.ended for one in (first, second, third)] == [[], ["close"], []]
    assert third.statuses == []


async def test_a_connection_that_is_asked_something_is_not_idle() -> None:
    state, idle = ServerState(), dict[HttpProtocol, None]()
    busy = Connection(state=state, max_connections=1, idle=idle)
    await busy.send(GET + b"\r\n")
    await busy.send(GET)
    late = Connection(state=state, max_connections=1, idle=idle)
    assert busy.open
    assert late.statuses == [429]


async def test_an_answer_leaves_in_one_piece_and_a_head_alone_does_not_wait_for_its_body(
    connection: Connection,
) -> None:
    await connection.send(GET + b"\r\n")
    assert connection.statuses == [200]
    assert connection.transport.writes == 1
    streaming = b"GET /streaming HTTP/1.1\r\nHost: x\r\n\r\n"
    await connection.send(streaming)
    assert connection.statuses == [200, 200]
    connection.app.gate.set()
    await connection.send(b"")
    assert connection.transport.written.endswith(b"late")
