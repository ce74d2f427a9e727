"""uvicorn's HTTP/1.1 protocol class with limits: sizes, deadlines, framing, connections.

Tested with uvicorn 0.54 and httptools 0.9; it leans on names that uvicorn does not promise, and
`uvicorn_fit` ends the start when they are gone. While a request is being answered, the middleware
bounds its body; this bounds what comes before and after. Longer than other files, because it is one
class and its methods are uvicorn's.
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

from app.api.parts import Parts
from app.api.problems import write_error_response
from app.errors import AppError, MalformedRequestError, OverloadedError, RequestTimeoutError
from app.server.deadlines import Deadlines
from app.server.request_head import (
    MAX_HEAD,
    check_head,
    check_size,
)
from app.server.transport import CoalescingTransport
from app.server.uvicorn_check import check_uvicorn
from app.telemetry.metrics import UNMATCHED
from app.telemetry.record import create_request_id, open_record

_MEBI: Final = 1024 * 1024
_MAX_FRAMING: Final = MAX_HEAD + 16 * 1024
"""Bytes of a request that are not its body: head, chunk sizes and extensions, trailers."""
_STEP: Final = 64 * 1024
"""Bytes that are parsed before the next look at the limits."""
_BODY_SHIFT: Final = 6
"""A body of n bytes may have n >> 6 more of them: chunks of half a kilobyte are fine."""
_LINGER_S: Final = 1.0
_MAX_UNREAD: Final = _MEBI
"""What a client may go on to send when it is answered: closing on unread bytes would reset the
connection, and the answer could be lost on its way."""
_LAST_REQUEST_S: Final = 0.5
"""How long a connection that is idle when the server stops may still bring a request, in seconds:
one may be on its way, and closing would lose it."""
_MAX_WAITING: Final = 100
"""Requests that may wait behind one that is being answered: each takes two kilobytes."""
_MAX_CONNECTIONS: Final = 4096
_FILES_OF_OUR_OWN: Final = 64


class _Part(Enum):
    """What of a request the client is sending."""

    IDLE = 0
    HEAD = 1
    BODY = 2


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *,
        parts: Parts,
        max_connections: int,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._settings = parts.settings
        self._max_connections = max_connections
        self._metrics = parts.metrics
        self._access_log = parts.access_log
        self._routes = parts.routes
        self._clock = Deadlines(self.loop, self._stop_waiting, self._check_unsent)
        self.url = b""
        self._part = _Part.IDLE
        self._framing = 0
        self._upgrading = False
        self._refusal: AppError | None = None
        self._answered: RequestResponseCycle | None = None
        self._leaving = False
        self._stopping = False
        self._may_receive = math.inf
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own signature
        """Start the clock, or turn the connection away."""
        super().connection_made(transport)
        self._coalescing = CoalescingTransport(transport, self._leave, self.loop)
        if len(self.connections) > self._max_connections:
            detail = "There are too many connections (MAX_CONNECTIONS); try again."
            self._answer(OverloadedError(detail, {"Retry-After": "1"}))
        else:
            self._clock.set_read(self._settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock, and whoever is answering."""
        if self._answered and not self._answered.response_complete:
            # uvicorn tells only the latest request, which may be one that has not begun.
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)
        self._clock.stop()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see that it is not too much of it."""
        self._may_receive -= len(data)
        if self._may_receive < 0:
            self.transport.abort()
            return
        if self._leaving or self._refusal:
            return
        if self._part is _Part.IDLE:
            self._part = _Part.HEAD
            self._clock.set_read(math.inf)
        try:
            view = memoryview(data)
            for start in range(0, len(data), _STEP):
                self._feed(view[start : start + _STEP])
                self._check_framing()
        except AppError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            reason = error.__context__  # what a callback of ours raised
            invalid = MalformedRequestError("The request is not valid HTTP/1.1.")
            self._refuse(reason if isinstance(reason, AppError) else invalid)

    def _feed(self, data: memoryview) -> None:
        self._framing += len(data)
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                parsed: int = upgrade.args[0]
            else:
                return
            self._stay_with_http()
            data = data[parsed:]

    def _stay_with_http(self) -> None:
        """Give the request to a new parser, but not its wish for another protocol.

        The old one would take its body, and all that follows, for that protocol's.
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
        if self._part is _Part.HEAD:
            check_size(self.url, self._framing)
            if not self._clock.reading:
                self._clock.set_read(self._settings.header_timeout_s)
        elif self._framing > _MAX_FRAMING:
            raise MalformedRequestError("The chunks of the body are too many or too small.")

    # What the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._part = _Part.HEAD

    def on_headers_complete(self) -> None:
        """Start answering, if the head keeps to the rules."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrading = True
            return
        check_head(self.parser.get_http_version(), self.url, self.headers)
        if len(self.pipeline) >= _MAX_WAITING:
            detail = "Too many requests wait on this connection; read the answers."
            raise OverloadedError(detail, {"Retry-After": "1"})
        super().on_headers_complete()
        self.headers = []  # for trailers, which are nobody's headers
        self.cycle.transport = self._coalescing
        self._part = _Part.BODY
        self._clock.set_read(math.inf)

    def on_body(self, body: bytes) -> None:
        """Collect it; what is left of the bytes is framing."""
        super().on_body(body)
        self._framing -= len(body) + (len(body) >> _BODY_SHIFT)

    def on_message_complete(self) -> None:
        """The client has sent all of a request."""
        if self._upgrading:
            return
        super().on_message_complete()
        self._part = _Part.IDLE
        self._framing = 0
        if self.cycle.response_complete:
            self._may_receive = math.inf
            self._clock.set_read(self._settings.keep_alive_s)

    # The answer

    def on_response_complete(self) -> None:
        """Go on with the next request; uvicorn's, but for the timer it starts each time."""
        self._coalescing.flush()
        self.server_state.total_requests += 1
        if self._leaving or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal:
            self._answer(self._refusal)
        elif self._part is _Part.BODY:
            self._expect_rest()
        elif self._part is _Part.IDLE:
            self._clock.set_read(self._settings.keep_alive_s)

    def _expect_rest(self) -> None:
        """A body goes on that nobody will read."""
        self._may_receive = _MAX_UNREAD
        self._clock.set_read(self._settings.body_timeout_s)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        if self._stopping:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    @property
    def _path(self) -> str:
        return self.url.partition(b"?")[0].decode("latin-1")

    @property
    def _answering(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    def _refuse(self, error: AppError) -> None:
        """Answer with an error as the last thing, after the answers that are due before it."""
        self._refusal = error
        if self._part is not _Part.BODY:
            if not self._answering:
                self._answer(error)
            return
        cycle = self.cycle
        if self.pipeline:  # it waits for its turn, which never comes
            self.pipeline.popleft()
            return
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if cycle.response_started:
            self._leave()
        else:
            open_record(cycle.scope).refused_with = error.status
            self._answer(error)

    def _answer(self, error: AppError) -> None:
        if self._leaving or self.transport.is_closing():
            return
        request_id = create_request_id()
        error_format = self._routes.find_format(self._path)
        headers = self.server_state.default_headers
        self._coalescing.write(write_error_response(error, request_id, error_format, headers))
        self._leave()
        self._metrics.refusals.labels(error.code).inc()
        if not self._answering:  # else the middleware tells of it
            self._metrics.record_request(UNMATCHED, error.status, 0)
            fields = {"request_id": request_id, "code": error.code}
            self._access_log.tell(error.status, fields)

    def _leave(self) -> None:
        """Close when everything is written; a client that is still sending may hear it first."""
        if self._leaving or self.transport.is_closing():
            return
        self._coalescing.flush()
        self._leaving = True
        self._clock.set_read(math.inf)
        if self._part is _Part.IDLE:
            self.transport.close()
        else:
            self._may_receive = _MAX_UNREAD
            self._clock.set_read(_LINGER_S)
            self.transport.write_eof()
            self.flow.resume_reading()
        self._expect_reading()

    def shutdown(self) -> None:
        """The server stops: whatever is answered from now on is the last answer."""
        self._stopping = True
        if self._part is _Part.BODY or self._answering:
            self.cycle.keep_alive = False
        elif not self._leaving:
            self._clock.set_read(_LAST_REQUEST_S)

    # The client's time

    def eof_received(self) -> None:
        """The transport closes when everything is written."""
        self._expect_reading()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if not self._leaving:
            self._clock.set_write(math.inf)

    def _expect_reading(self) -> None:
        if not self._clock.writing:
            self._unsent = self.transport.get_write_buffer_size()
            if self._unsent:
                self._clock.set_write(self._settings.write_timeout_s)

    def _check_unsent(self) -> None:
        before = self._unsent
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent > max(0, before - _MEBI):
            self.transport.abort()
        elif self._unsent:
            self._clock.set_write(self._settings.write_timeout_s)

    def _stop_waiting(self) -> None:
        if self._leaving or self._part is not _Part.HEAD:
            self._part, self._leaving = _Part.IDLE, False
            self._leave()
        elif self._answering:  # reading may be paused, which is not the client's fault
            self._clock.set_read(self._settings.header_timeout_s)
        else:
            detail = "The headers did not arrive in time (HEADER_TIMEOUT_S)."
            self._refuse(RequestTimeoutError(detail))


def create_http_protocol(parts: Parts) -> type[asyncio.Protocol]:
    """What uvicorn is given as `http`.

    Raises:
        UnfitUvicornError: uvicorn's own class is no longer what this one builds on.
    """
    check_uvicorn()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    auto = max(1, min(_MAX_CONNECTIONS, files - _FILES_OF_OUR_OWN))
    given = parts.settings.max_connections
    return cast(
        "type[asyncio.Protocol]",  # uvicorn only calls it
        partial(
            HttpProtocol,
            parts=parts,
            max_connections=auto if given == "auto" else given,
        ),
    )
