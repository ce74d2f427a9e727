"""Bounds a request's body in bytes and time, and the memory that all bodies hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        self._left = limit
        self._spared = int(limit * _SPARED)

    @contextmanager
    def share(self, *, of_many: bool) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes so many bytes more; all are given back on leaving.

        Two slow bodies `of_many` images of the largest size must not shut out every single image.

        Raises:
            OverloadedError: by the function, when there is no room.
        """
        taken = 0
        spared = self._spared if of_many else 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left - spared:
                raise OverloadedError("Too many bytes of images are here already; try again.")
            self._left -= count
            taken += count

        try:
            yield take
        finally:
            self._left += taken


class RequestBody:
    """One request's body of so many bytes at most, all of them taken from `HeldBytes`.

    Once it has arrived, watches for the client to disconnect.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        limit: int,
        take: Callable[[int], None],
        timeout_s: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self._take = take
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._watcher: asyncio.Handle | asyncio.Task[None] | None = None
        self._answered = False
        self._client_left = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run an application that reads this body; cancel it when the client disconnects.

        Raises:
            ClientDisconnect: the client left before the response was complete.
        """
        self._handler = asyncio.current_task()
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._client_left:
                raise
            if self._handler:
                self._handler.uncancel()
            raise ClientDisconnect from None
        finally:
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
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeoutError from None
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            self._left -= count
            if self._left < 0:
                raise BodyTooLargeError
            self._take(count)
            if not message.get("more_body", False):
                # Not before the loop's next turn: a cached answer is given in this one.
                self._watcher = asyncio.get_running_loop().call_soon(self._start_watch)
        return message

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    def _start_watch(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Wait for the client to disconnect: the body is complete, so nothing else can come."""
        await self._receive()
        if not self._answered and self._handler:
            self._client_left = True
            self._handler.cancel()
