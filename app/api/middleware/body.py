"""Bounds a request's body in bytes and time, and the memory that all bodies hold together."""

from __future__ import annotations

import asyncio
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLargeError, OverloadedError, RequestTimeoutError

_SPARED = 1 / 8
"""The share of that memory that bodies of many images leave to the others."""


ON_DISCONNECT: Final = "on_disconnect"
"""Key in a request's `state` of what the server calls when the client disconnects before it has its
answer. To wait for ASGI's message would take a task a request."""


class HeldBytes:
    """Bounds the bytes of all bodies together, from their arrival to their responses.

    Clients may be slow, and there may be thousands.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.spared = int(limit * _SPARED)

    def share(self, *, of_many: bool) -> Share:
        """Create one body's share, empty at first.

        Two slow bodies `of_many` images of the largest size must not shut out every single image.
        """
        return Share(self, self.spared if of_many else 0)


class Share:
    """One body's part of `HeldBytes`; use as a context manager: leaving gives it back."""

    def __init__(self, held: HeldBytes, spared: int) -> None:
        self._held = held
        self._spared = spared
        self._taken = 0

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give all back."""
        self._held.left += self._taken

    def take(self, count: int) -> None:
        """Take so many bytes more.

        Raises:
            OverloadedError: there is no room.
        """
        if count > self._held.left - self._spared:
            raise OverloadedError("Too many bytes of images are here already; try again.")
        self._held.left -= count
        self._taken += count


class RequestBody:
    """One request's body of so many bytes at most, all of them taken from a share of `HeldBytes`.

    Once it has arrived, the server tells when the client disconnects: see `ON_DISCONNECT`.
    """

    def __init__(self, receive: Receive, limit: int, share: Share, timeout_s: float) -> None:
        self._receive = receive
        self._left = limit
        self._share = share
        loop = asyncio.get_running_loop()
        self._handler = asyncio.current_task(loop)
        self._timer = loop.call_later(timeout_s, self._expire)
        self._waiting = self._expired = self._complete = self._client_left = False

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> None:
        """Run an application that reads this body; cancel it when the client disconnects.

        Raises:
            ClientDisconnect: the client left before the response was complete.
        """
        scope["state"][ON_DISCONNECT] = self._leave
        try:
            await app(scope, self.receive, send)
        except asyncio.CancelledError:
            if not self._client_left:
                raise
            if self._handler:
                self._handler.uncancel()
            raise ClientDisconnect from None
        finally:
            self._timer.cancel()
            # The scope would hold this body: the two would wait for the garbage collector.
            del scope["state"][ON_DISCONNECT]

    async def receive(self) -> Message:
        """ASGI's `receive`.

        Raises:
            RequestTimeoutError, BodyTooLargeError, OverloadedError: no more of it is accepted.
        """
        if self._complete:
            return await self._receive()
        message = await self._receive_in_time()
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            self._left -= count
            if self._left < 0:
                raise BodyTooLargeError
            self._share.take(count)
            if not message.get("more_body", False):
                self._timer.cancel()
                self._complete = True
        return message

    async def _receive_in_time(self) -> Message:
        """Receive as `asyncio.timeout_at` would, with one timer for all of the body."""
        if self._expired:
            raise RequestTimeoutError
        self._waiting = True
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._is_timeout():
                raise
            raise RequestTimeoutError from None
        finally:
            self._waiting = False

    def _expire(self) -> None:
        self._expired = True
        if self._waiting and self._handler:
            self._handler.cancel()

    def _is_timeout(self) -> bool:
        """Whether it is the timer that cancelled the handler, and nobody else as well."""
        return self._expired and self._handler is not None and not self._handler.uncancel()

    def _leave(self) -> None:
        """Cancel the handler; while the body is incomplete, `receive` tells it."""
        if self._complete and self._handler:
            self._client_left = True
            self._handler.cancel()
