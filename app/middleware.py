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

from app.access_log import AccessLog, escape
from app.body import Body, HeldBytes
from app.cors import Cors
from app.errors import (
    AppError,
    ShuttingDownError,
    UnauthorizedError,
)
from app.guard import Guard
from app.keys import ApiKeys
from app.metrics import Metrics
from app.problems import create_problem_response
from app.request_head import choose_request_id

_CLIENT_CLOSED = 499
"""nginx's status for a client that left first; only ever in logs and metrics."""
_UNMATCHED = "unmatched"

_log = logging.getLogger(__name__)


class RequestContext:
    """Makes sure that every request ends in one answer, one log line and one count."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, cors: Cors) -> None:
        self._app = cors(app)
        self._metrics = metrics
        self._cors = cors
        self._access_log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; anything else passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = choose_request_id(scope["headers"])
        id_header = b"x-request-id", request_id.encode()
        scope.setdefault("state", {}).update(request_id=request_id, started=started)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            try:
                await send(message)
            except RuntimeError as error:  # uvloop's, for a connection that is closed
                raise ClientDisconnect from error

        async def answer(error: AppError) -> None:
            if not status:
                response = self._cors(create_problem_response(error, request_id, scope["path"]))
                await response(scope, receive, send_with_id)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                # The protocol class may have answered a broken body before the app could.
                status = scope["state"].get("refused_with", _CLIENT_CLOSED)
            except asyncio.CancelledError:
                # Only the server's shutdown cancels a request: its time is up.
                await answer(ShuttingDownError())
            except Exception:  # noqa: BLE001  # the last place before the client
                _log.exception("A request failed.", extra={"request_id": request_id})
                await answer(AppError())
            finally:
                self._record(scope, status or _CLIENT_CLOSED, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        refused_at = scope["state"].get("refused_at", _UNMATCHED)  # the door comes before routing
        route = getattr(scope.get("route"), "path", refused_at)
        label = "client_closed" if status == _CLIENT_CLOSED else str(status)
        self._metrics.requests.labels(route, label).inc()
        if "watches" not in scope["state"]:  # for as long as the viewer likes
            self._metrics.request_duration.labels(route).observe(duration_s)
        fields = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": escape(scope["path"]),
            "duration_ms": round(duration_s * 1000, 2),
        }
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
        with self._held.share() as share:
            body = Body(receive, send, route.max_body_bytes, share, self._body_timeout_s)
            await body.run(self._app, scope)


async def _refuse(
    error: AppError, metrics: Metrics, scope: Scope, receive: Receive, send: Send
) -> None:
    metrics.refusals.labels(error.code).inc()
    response = create_problem_response(error, scope["state"]["request_id"], scope["path"])
    await response(scope, receive, send)
