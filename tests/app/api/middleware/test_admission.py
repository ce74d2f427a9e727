"""How a full service refuses: before the body is read, over a fake transport."""

from __future__ import annotations

import anyio.lowlevel
import pytest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware.admission import AdmissionControl
from app.api.middleware.request_context import RequestContext
from app.api.parts import Parts
from app.api.routing import Body, RouteTable, declare
from app.errors import OverloadedError
from tests.app.server.test_connection import App, Connection

pytestmark = pytest.mark.anyio

IMAGE = b"POST /held?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


@declare(body=Body.ONE_IMAGE)
async def held(scope: Scope, receive: Receive, send: Send) -> None: ...


class Admission:
    """Says whether the service is full."""

    def __init__(self) -> None:
        self.full = True

    def check(self) -> None:
        if self.full:
            raise OverloadedError(retry_after_s=7)


class FullConnection(Connection):
    """To a service that takes images of a thousand bytes at `/held`."""

    def __init__(self) -> None:
        self.admission = Admission()
        super().__init__(wrap=self._wrap)

    def _wrap(self, app: App, parts: Parts) -> ASGIApp:
        routes = RouteTable([Route("/held", held, methods=["POST"])])
        control = AdmissionControl(
            app,
            routes=routes,
            check_admission=self.admission.check,
            max_body_bytes={Body.ONE_IMAGE: 1000},
            body_timeout_s=15,
        )
        return RequestContext(
            control,
            origins=(),
            routes=routes,
            metrics=parts.lifecycle.metrics,
            access_log=parts.access_log,
        )


@pytest.fixture
async def full() -> FullConnection:
    return FullConnection()


def count(connection: Connection, name: str, **labels: str) -> float | None:
    return connection.metrics.registry.get_sample_value(name, labels)


async def test_an_image_for_a_full_service_is_refused_before_its_body_comes(
    full: FullConnection,
) -> None:
    await full.send(IMAGE + b"X-Request-ID: mine\r\n\r\n")
    head, _, body = full.transport.written.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (full.statuses, full.code, full.app.scopes) == ([429], "overloaded", [])
    assert fields[b"retry-after"] == b"7"
    assert fields[b"x-request-id"] == b"mine"
    assert int(fields[b"content-length"]) == len(body)
    assert b"connection" not in fields
    assert full.open


async def test_who_was_refused_may_ask_again_on_the_same_connection(full: FullConnection) -> None:
    await full.send(IMAGE + b"\r\n")
    full.admission.full = False
    full.app.gate.set()
    await full.send(bytes(100) + IMAGE + b"\r\n" + bytes(100))
    assert full.statuses == [429, 200]
    assert full.transport.written.endswith(bytes(100))


async def test_refusals_in_a_row_are_answered_in_a_row(full: FullConnection) -> None:
    await full.send((IMAGE + b"\r\n" + bytes(100)) * 3)
    assert full.statuses == [429] * 3


async def test_a_refusal_behind_a_request_that_is_being_answered_waits_for_it(
    full: FullConnection,
) -> None:
    full.admission.full = False
    await full.send(IMAGE + b"\r\n" + bytes(100))
    full.admission.full = True
    await full.send(IMAGE + b"\r\n" + bytes(100))
    assert full.statuses == []
    full.app.gate.set()
    await full.send(b"")
    assert full.statuses == [200, 429]


async def test_a_client_that_wants_no_second_request_is_closed(full: FullConnection) -> None:
    await full.send(IMAGE + b"Connection: close\r\n\r\n" + bytes(100))
    assert full.statuses == [429]
    assert b"\r\nconnection: close\r\n" in full.transport.written
    assert not full.open


async def test_a_refused_client_that_never_sends_its_body_is_closed(full: FullConnection) -> None:
    await full.send(IMAGE + b"\r\n")
    full.loop.advance(14)
    assert full.open
    full.loop.advance(2)
    assert not full.open


@pytest.mark.parametrize(
    "head",
    [
        b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["another method", "another route"],
)
async def test_what_is_no_image_is_the_applications_to_answer(
    full: FullConnection, head: bytes
) -> None:
    await full.send(head)
    assert len(full.app.scopes) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST /held?a=1&a=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 422),
    ],
    ids=["too large", "twice the same parameter"],
)
async def test_a_client_at_fault_is_told_so_by_a_full_service(
    full: FullConnection, head: bytes, status: int
) -> None:
    await full.send(head)
    assert (full.statuses, full.app.scopes) == ([status], [])


async def test_a_refusal_is_counted_by_its_route(full: FullConnection) -> None:
    await full.send(IMAGE + b"\r\n" + bytes(100))
    assert count(full, "mobilenet_refusals_total", code="overloaded") == 1
    assert count(full, "mobilenet_requests_total", route="/held", status="429") == 1
    assert count(full, "mobilenet_request_duration_seconds_count", route="/held", status="4xx") == 1


async def test_a_thousand_requests_behind_one_another_are_too_many_to_wait(
    full: FullConnection,
) -> None:
    empty = b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    full.app.gate.set()
    await full.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + empty * 1000)
    for _ in range(1000):
        await anyio.lowlevel.checkpoint()
    assert full.statuses == [200, *[429] * 101]
    assert b"connection: close" in full.transport.written
    assert full.transport.ended


async def test_other_connections_have_their_turn_between_refusals(full: FullConnection) -> None:
    full.protocol.data_received((IMAGE + b"\r\n" + bytes(100)) * 100)
    assert full.statuses == []
    for refused in range(100):
        while len(full.statuses) == refused:
            await anyio.lowlevel.checkpoint()
        assert len(full.statuses) == refused + 1


async def test_a_client_that_does_not_read_is_answered_when_it_does(full: FullConnection) -> None:
    full.protocol.pause_writing()
    await full.send(IMAGE + b"\r\n" + bytes(100))
    assert full.statuses == []
    full.protocol.resume_writing()
    await full.send(b"")
    assert full.statuses == [429]
