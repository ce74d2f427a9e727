"""Makes sure that every request ends in one response, one log line and one count."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from functools import partial

from opentelemetry.trace import SpanContext
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import create_error_response
from app.api.routing import RouteTable
from app.errors import AppError, ShuttingDownError
from app.telemetry.access_log import AccessLog
from app.telemetry.escape import escape
from app.telemetry.metrics import CLIENT_CLOSED, Metrics
from app.telemetry.record import Record, open_record
from app.telemetry.traces import Traces, format_traceparent

_log = logging.getLogger(__name__)

_EXPOSED_HEADERS = (
    *("X-Request-ID", "X-Cache", "Server-Timing", "Retry-After", "WWW-Authenticate"),
    "Inference-Header-Content-Length",
)


class _Response:
    """The response to one request, on its way: adds headers to it, and tells the record.

    Attributes:
        status: 0 until it begins.
    """

    def __init__(self, send: Send, record: Record, span: SpanContext | None) -> None:
        self._send = send
        self._record = record
        self._headers = [(b"x-request-id", record.request_id.encode())]
        self._headers += [(b"traceparent", format_traceparent(span))] if span else []
        self.status = 0

    async def send(self, message: Message) -> None:
        """ASGI's `send`; raises ClientDisconnect once the connection is closed."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._record.sent = time.perf_counter()
            message["headers"] = [*message.get("headers", ()), *self._headers]
        else:
            self._record.answer_bytes += len(message.get("body", b""))
        try:
            await self._send(message)
        except RuntimeError as error:  # uvloop's, for a connection that is closed
            raise ClientDisconnect from error


class RequestContext:
    """Opens a request's record, answers errors that nobody else did, and reports the outcome.

    Pages of the origins may read responses, without cookies.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Collection[str],
        routes: RouteTable,
        metrics: Metrics,
        access_log: AccessLog,
        traces: Traces | None = None,
    ) -> None:
        self._add_cors = _allow(origins)
        self._app = self._add_cors(app)
        self._routes = routes
        self._metrics = metrics
        self._access_log = access_log
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; anything else passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._metrics.in_flight.inc()
        try:
            await self._handle(scope, receive, send)
        finally:
            self._metrics.in_flight.dec()

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = open_record(scope)
        span = self._traces.request if self._traces else None
        response = _Response(send, record, span)

        async def answer(error: AppError) -> None:
            if not response.status:
                error_format = self._routes.find_format(scope["path"])
                refusal = create_error_response(error, record.request_id, error_format)
                await self._add_cors(refusal)(scope, receive, response.send)

        try:
            await self._app(scope, receive, response.send)
        except ClientDisconnect:
            # The server may have answered a broken body before the application could.
            response.status = record.refused_with or CLIENT_CLOSED
        except asyncio.CancelledError:
            # Only the server's shutdown cancels a request: its time is up.
            await answer(ShuttingDownError())
        except AppError as error:  # by a middleware: what routes raise is answered by FastAPI
            self._metrics.refusals.labels(error.code).inc()
            await answer(error)
        except Exception:  # noqa: BLE001  # the last place before the client
            _log.exception("A request failed.", extra={"request_id": record.request_id})
            await answer(AppError())
        finally:
            self._report(scope, response.status or CLIENT_CLOSED, record, span)

    def _report(self, scope: Scope, status: int, record: Record, span: SpanContext | None) -> None:
        duration_s = time.perf_counter() - record.started
        route = getattr(scope.get("route"), "path", record.route)  # a refusal comes before routing
        self._metrics.record_request(route, status, duration_s if record.timed else None)
        self._metrics.record_stages(read=record.read_s, encode=record.encode_s)
        fields = {
            "request_id": record.request_id,
            "method": scope["method"],
            "path": escape(scope["path"]),
            "route": route,
            "duration_ms": round(duration_s * 1000, 2),
            **record.fields(),
        }
        if span:
            fields["trace_id"] = f"{span.trace_id:032x}"
        self._access_log.log(status, fields)


def _allow(origins: Collection[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Return what adds CORS headers to an application's responses, if there are origins."""
    if not origins:
        return lambda app: app
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # clients add their own, which are ignored; none of them is trusted
        expose_headers=_EXPOSED_HEADERS,
    )
