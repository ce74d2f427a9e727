"""Adds limits to uvicorn's HTTP/1.1 protocol class: sizes, deadlines, framing, connections.

The middleware bounds the body of a request that is being answered; this class bounds what comes
before and after. It overrides internals of uvicorn, whose version is therefore pinned.
"""

from __future__ import annotations

import asyncio
import math
import resource
from enum import Enum
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.middleware.body import ON_DISCONNECT
from app.api.parts import Parts
from app.api.problems import write_error_response
from app.errors import AppError, MalformedRequestError, OverloadedError, RequestTimeoutError
from app.server.deadlines import Deadline
from app.server.request_head import MAX_HEAD, check_head, check_size
from app.server.transport import CoalescingTransport
from app.settings import MEBI
from app.telemetry.metrics import UNMATCHED
from app.telemetry.record import create_request_id, open_record

_MAX_FRAMING: Final = MAX_HEAD + 16 * 1024
"""Bytes of a request that are not its body: head, chunk sizes and extensions, trailers."""
_STEP: Final = 256 * 1024
"""Bytes that are parsed before the limits are checked again: as many as uvloop reads at once."""
_BODY_SHIFT: Final = 6
"""A body of n bytes may have n >> 6 more bytes of framing: chunks of half a kilobyte are fine."""
_LINGER_S: Final = 1.0
_MAX_UNREAD: Final = MEBI
"""What a client may still send once it is answered. Closing on unread bytes would reset the
connection, and the answer could be lost."""
_LAST_REQUEST_S: Final = 0.5
"""How long an idle connection may still bring a request when the server stops, in seconds: closing
would lose one that is on its way."""
_MAX_PIPELINED: Final = 100
"""Requests that may wait behind one that is being answered: each takes two kilobytes."""
_MAX_CONNECTIONS: Final = 4096
_RESERVED_FILES: Final = 64


class _Receiving(Enum):
    """The part of a request that the client is sending."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        max_connections: at once; for one more, the one that has been idle longest is closed.
        idle: those that may bring another request, the longest idle first; shared by all.
    """

    def __init__(
        self, *, parts: Parts, max_connections: int, idle: dict[HttpProtocol, None], **given: Any
    ) -> None:
        super().__init__(**given)
        self._idle = idle
        self._settings = parts.lifecycle.settings
        self._max_connections = max_connections
        self._metrics = parts.lifecycle.metrics
        self._access_log = parts.access_log
        self._routes = parts.routes
        self._read_deadline = Deadline(self.loop, self._on_read_expiry)
        self._write_deadline = Deadline(self.loop, self._on_write_expiry)
        self.url = b""
        self._receiving = _Receiving.NOTHING
        self._framing = 0
        self._upgrading = False
        self._refusal: AppError | None = None
        self._current: RequestResponseCycle | None = None
        self._closing = False
        self._stopping = False
        self._may_receive = math.inf
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own signature
        """Set the first deadline; without room close an idle connection, or refuse this one."""
        super().connection_made(transport)
        self._output = CoalescingTransport(transport, self._close, self.loop)
        is_full = len(self.connections) > self._max_connections
        if is_full and (longest_idle := next(iter(self._idle), None)):
            longest_idle.close_idle()
            is_full = False
        if is_full:
            detail = "There are too many connections (MAX_CONNECTIONS); try again."
            self._answer(OverloadedError(detail))
        else:
            self._read_deadline.set(self._settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered; uvicorn tells only the last that came."""
        if self._current and not self._current.response_complete:
            self._current.disconnected = True
            self._current.message_event.set()
            if on_disconnect := self._current.scope["state"].get(ON_DISCONNECT):
                on_disconnect()
        super().connection_lost(exc)
        self._idle.pop(self, None)
        self._read_deadline.cancel()
        self._write_deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what came, within the limits."""
        self._may_receive -= len(data)
        if self._may_receive < 0:
            self.transport.abort()
            return
        if self._closing or self._refusal:
            return
        if self._receiving is _Receiving.NOTHING:
            self._receiving = _Receiving.HEAD
            self._idle.pop(self, None)
            self._read_deadline.unset()
        try:
            view = memoryview(data)
            for start in range(0, len(data), _STEP):
                self._feed(view[start : start + _STEP])
                self._check_framing()
        except AppError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            cause = error.__context__  # raised by a callback of this class
            invalid = MalformedRequestError("The request is not valid HTTP/1.1.")
            self._refuse(cause if isinstance(cause, AppError) else invalid)

    def _feed(self, data: memoryview) -> None:
        self._framing += len(data)
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                parsed: int = upgrade.args[0]
            else:
                return
            self._ignore_upgrade()
            data = data[parsed:]

    def _ignore_upgrade(self) -> None:
        """Give the request to a new parser without its Upgrade header.

        The old parser would take its body, and all that follows, for the other protocol's.
        """
        self._upgrading = False
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += name, b": ", value, b"\r\n"
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"".join((*head, b"\r\n")))

    def _check_framing(self) -> None:
        if self._receiving is _Receiving.HEAD:
            check_size(self.url, self._framing)
            if not self._read_deadline.is_set:
                self._read_deadline.set(self._settings.header_timeout_s)
        elif self._framing > _MAX_FRAMING:
            raise MalformedRequestError("The chunks of the body are too many or too small.")

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin to receive a head."""
        super().on_message_begin()
        self._receiving = _Receiving.HEAD

    def on_headers_complete(self) -> None:
        """Check the head, and have the request answered."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrading = True
            return
        check_head(self.parser.get_http_version(), self.url, self.headers)
        if len(self.pipeline) >= _MAX_PIPELINED:
            detail = "Too many requests wait on this connection; read the answers."
            raise OverloadedError(detail)
        super().on_headers_complete()
        self.headers = []  # takes the trailers, which no application reads
        self.cycle.transport = self._output
        self._receiving = _Receiving.BODY
        self._read_deadline.unset()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body; the rest of what was received is framing."""
        super().on_body(body)
        self._framing -= len(body) + (len(body) >> _BODY_SHIFT)

    def on_message_complete(self) -> None:
        """Wait for the next request, if this one is answered."""
        if self._upgrading:
            return
        super().on_message_complete()
        self._receiving = _Receiving.NOTHING
        self._framing = 0
        if self.cycle.response_complete:
            self._may_receive = math.inf
            self._wait_for_request()

    # Answers

    def on_response_complete(self) -> None:
        """Go on with the next request; overrides uvicorn's, which starts a timer each time."""
        self._output.flush()
        self.server_state.total_requests += 1
        if self._closing or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal:
            self._answer(self._refusal)
        elif self._receiving is _Receiving.BODY:  # which nobody will read
            self._may_receive = _MAX_UNREAD
            self._read_deadline.set(self._settings.body_timeout_s)
        elif self._receiving is _Receiving.NOTHING:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        self._idle[self] = None
        self._read_deadline.set(self._settings.keep_alive_s)

    def close_idle(self) -> None:
        """Make room for another connection."""
        del self._idle[self]
        self._close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current = cycle
        if self._stopping:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    @property
    def _answering(self) -> bool:
        return self._current is not None and not self._current.response_complete

    def _refuse(self, error: AppError) -> None:
        """Answer with an error, after the answers that are due, and close."""
        self._refusal = error
        if self._receiving is not _Receiving.BODY:
            if not self._answering:
                self._answer(error)
            return
        cycle = self.cycle
        if self.pipeline:  # it will never be answered
            self.pipeline.popleft()
            return
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if cycle.response_started:
            self._close()
        else:
            record = open_record(cycle.scope)
            record.refused_with = error.status
            self._answer(error, record.request_id)

    def _answer(self, error: AppError, request_id: str | None = None) -> None:
        if self._closing or self.transport.is_closing():
            return
        request_id = request_id or create_request_id()
        path = self.url.partition(b"?")[0].decode("latin-1")
        error_format = self._routes.find_format(path)
        headers = self.server_state.default_headers
        self._output.write(write_error_response(error, request_id, error_format, headers))
        self._close()
        self._metrics.refusals.labels(error.code).inc()
        if not self._answering:  # otherwise the middleware logs and counts it
            self._metrics.record_request(UNMATCHED, error.status, 0)
            fields = {"request_id": request_id, "code": error.code}
            self._access_log.log(error.status, fields)

    def _close(self) -> None:
        """Close once all is written; a client that is still sending has a while to read it."""
        if self._closing or self.transport.is_closing():
            return
        self._output.flush()
        self._closing = True
        self._read_deadline.unset()
        if self._receiving is _Receiving.NOTHING:
            self.transport.close()
        else:
            self._may_receive = _MAX_UNREAD
            self._read_deadline.set(_LINGER_S)
            self.transport.write_eof()
            self.flow.resume_reading()
        self._set_write_deadline()

    def shutdown(self) -> None:
        """Make the next answer the last: the server stops."""
        self._stopping = True
        if self._receiving is _Receiving.BODY or self._answering:
            self.cycle.keep_alive = False
        elif not self._closing:
            self._read_deadline.set(_LAST_REQUEST_S)

    # Deadlines

    def eof_received(self) -> None:
        """Let the transport close once all is written."""
        self._set_write_deadline()

    def pause_writing(self) -> None:
        """Wait for a client that reads more slowly than it is written to."""
        super().pause_writing()
        self._set_write_deadline()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        if not self._closing:
            self._write_deadline.unset()

    def _set_write_deadline(self) -> None:
        if not self._write_deadline.is_set:
            self._unsent = self.transport.get_write_buffer_size()
            if self._unsent:
                self._write_deadline.set(self._settings.write_timeout_s)

    def _on_write_expiry(self) -> None:
        before = self._unsent
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent > max(0, before - MEBI):
            self.transport.abort()
        elif self._unsent:
            self._write_deadline.set(self._settings.write_timeout_s)

    def _on_read_expiry(self) -> None:
        if self._closing or self._receiving is not _Receiving.HEAD:
            # Its time is up, after lingering too: close now, as if it sent nothing.
            self._receiving, self._closing = _Receiving.NOTHING, False
            self._close()
        elif self._answering:  # reading may be paused, which is not the client's fault
            self._read_deadline.set(self._settings.header_timeout_s)
        else:
            detail = "The headers did not arrive in time (HEADER_TIMEOUT_S)."
            self._refuse(RequestTimeoutError(detail))


def create_http_protocol(parts: Parts) -> type[asyncio.Protocol]:
    """Create what uvicorn takes as `http`."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    auto = max(1, min(_MAX_CONNECTIONS, files - _RESERVED_FILES))
    given = parts.lifecycle.settings.max_connections
    most = auto if given == "auto" else given
    return cast(
        "type[asyncio.Protocol]",  # uvicorn only calls it
        partial(HttpProtocol, parts=parts, max_connections=most, idle={}),
    )
