"""What every request passes: plain ASGI classes, outermost first.

`RequestContext` gives an id, the clock, the last-resort answer, the log line and the metrics;
`Authorization` asks for a key where keys are asked for;
`Door` turns a request away, bounds its body, and ends the work of a client that left.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.middleware.body import Body, HeldBytes
from app.api.middleware.cors import Cors
from app.api.middleware.guard import Guard
from app.api.middleware.keys import ApiKeys
from app.api.problems import create_problem_response
from app.errors import (
    AppError,
    ShuttingDownError,
    UnauthorizedError,
)
from app.server.request_head import choose_request_id
from app.telemetry.access_log import AccessLog
from app.telemetry.escape import escape
from app.telemetry.metrics import CLIENT_CLOSED, UNMATCHED, Metrics
from app.telemetry.record import Record
from app.telemetry.traces import Traces, format_traceparent

_log = logging.getLogger(__name__)


class RequestContext:
    """Makes sure that every request ends in one answer, one log line and one count."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        access_log: AccessLog,
        cors: Cors,
        traces: Traces | None = None,
    ) -> None:
        self._app = cors(app)
        self._metrics = metrics
        self._access_log = access_log
        self._cors = cors
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; anything else passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._metrics.in_flight.track_inprogress():
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = choose_request_id(scope["headers"])
        record = Record(request_id)
        headers = self._headers(request_id)
        scope.setdefault("state", {}).update(
            record=record, request_id=request_id, started=record.started
        )
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                record.sent = time.perf_counter()
                message["headers"] = [*message.get("headers", ()), *headers]
            else:
                record.answer_bytes += len(message.get("body", b""))
            try:
                await send(message)
            except RuntimeError as error:  # uvloop's, for a connection that is closed
                raise ClientDisconnect from error

        async def answer(error: AppError) -> None:
            if not status:
                response = self._cors(create_problem_response(error, request_id, scope["path"]))
                await response(scope, receive, send_with_id)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            # The protocol class may have answered a broken body before the app could.
            status = scope["state"].get("refused_with", CLIENT_CLOSED)
        except asyncio.CancelledError:
            # Only the server's shutdown cancels a request: its time is up.
            await answer(ShuttingDownError())
        except Exception:  # noqa: BLE001  # the last place before the client
            _log.exception("A request failed.", extra={"request_id": request_id})
            await answer(AppError())
        finally:
            self._tell(scope, status or CLIENT_CLOSED, record)

    def _headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", request_id.encode())]
        if span := self._traces.request if self._traces else None:
            headers.append((b"traceparent", format_traceparent(span)))
        return headers

    def _tell(self, scope: Scope, status: int, record: Record) -> None:
        duration_s = time.perf_counter() - record.started
        refused_at = scope["state"].get("refused_at", UNMATCHED)  # the door comes before routing
        route = getattr(scope.get("route"), "path", refused_at)
        # A viewer stays for as long as it likes.
        timed_s = None if "watches" in scope["state"] else duration_s
        self._metrics.record_request(route, status, timed_s)
        self._metrics.record_stages(read=record.read_s, encode=record.encode_s)
        fields = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": escape(scope["path"]),
            "route": route,
            "duration_ms": round(duration_s * 1000, 2),
            **record.fields(),
        }
        if span := self._traces.request if self._traces else None:
            fields["trace_id"] = f"{span.trace_id:032x}"
        self._access_log.tell(status, fields)


class Authorization:
    """Asks for a key before a request is told anything else, its body unread."""

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; anything else passes through."""
        try:
            if scope["type"] == "http":
                self._keys.check(scope)
        except UnauthorizedError as error:
            await _refuse(error, self._metrics, scope, receive, send)
            return
        await self._app(scope, receive, send)


class Door:
    """Guards the routes that take images.

    Args:
        guard: knows them.
        body_timeout_s: how long a client may take to send its body.
        max_held_bytes: of all bodies together, from their arrival to their answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        body_timeout_s: float,
        max_held_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._guard = guard
        self._body_timeout_s = body_timeout_s
        self._held = HeldBytes(max_held_bytes)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request to a guarded path; anything else passes through."""
        if (route := self._guard.find(scope)) is None:
            await self._app(scope, receive, send)
            return
        try:
            self._guard.check(scope, route)
        except AppError as error:
            scope["state"]["refused_at"] = route.path
            await _refuse(error, self._metrics, scope, receive, send)
            return
        of_many = route.max_body_bytes > self._guard.least_body_bytes
        with self._held.share(of_many=of_many) as share:
            body = Body(receive, send, route.max_body_bytes, share, self._body_timeout_s)
            await body.run(self._app, scope)


async def _refuse(
    error: AppError, metrics: Metrics, scope: Scope, receive: Receive, send: Send
) -> None:
    metrics.refusals.labels(error.code).inc()
    response = create_problem_response(error, scope["state"]["request_id"], scope["path"])
    await response(scope, receive, send)
