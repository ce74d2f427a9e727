"""Bounds a request's body in bytes and time, and the memory that all bodies hold together."""

from __future__ import annotations

import asyncio
from typing import Self

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLargeError, OverloadedError, RequestTimeoutError

_SPARED = 1 / 8
"""The share of that memory that bodies of many images leave to the others."""


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
    """One request's body of so many bytes at most, all of them taken from `HeldBytes`.

    Once it has arrived, watches for the client to disconnect.
    """

    def __init__(
        self, receive: Receive, send: Send, limit: int, share: Share, timeout_s: float
    ) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._handler = asyncio.current_task(self._loop)
        self._timer = self._loop.call_later(timeout_s, self._expire)
        self._waiting = self._expired = False
        self._watcher: asyncio.Handle | asyncio.Task[None] | None = None
        self._answered = False
        self._client_left = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run an application that reads this body; cancel it when the client disconnects.

        Raises:
            ClientDisconnect: the client left before the response was complete.
        """
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._client_left:
                raise
            if self._handler:
                self._handler.uncancel()
            raise ClientDisconnect from None
        finally:
            self._timer.cancel()
            if self._watcher:
                self._watcher.cancel()
                # Its frame holds this body: the two would wait for the garbage collector.
                self._watcher = None

    async def receive(self) -> Message:
        """ASGI's `receive`.

        Raises:
            RequestTimeoutError, BodyTooLargeError, OverloadedError: no more of it is accepted.
        """
        if self._watcher:
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
                # Not before the loop's next turn: a cached answer is given in this one.
                self._watcher = self._loop.call_soon(self._start_watch)
        return message

    async def _receive_in_time(self) -> Message:
        """Receive as `asyncio.timeout_at` would, with one timer for all of the body."""
        if self._expired:
            raise RequestTimeoutError
        self._waiting = True
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._expired or (self._handler and self._handler.uncancel()):
                raise
            raise RequestTimeoutError from None
        finally:
            self._waiting = False

    def _expire(self) -> None:
        self._expired = True
        if self._waiting and self._handler:
            self._handler.cancel()

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    def _start_watch(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        """Wait for the client to disconnect: the body is complete, so nothing else can come."""
        await self._receive()
        if not self._answered and self._handler:
            self._client_left = True
            self._handler.cancel()
