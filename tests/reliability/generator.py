"""Open-loop load: requests are sent when they are due, whatever the server does.

Latency counts from the moment at which a request was due, so that a server (or a generator) that
lags is not forgiven. Bytes are prepared beforehand, and a connection is a protocol class and not a
stream, so that one core offers thousands of photos a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from tests.reliability.load import BROKEN, Answer, Load, create_request

_TICK_S = 0.001


class Connection(asyncio.Protocol):
    """One connection of one client, one request at a time.

    Args:
        done: told status and Retry-After of each request.
        everybody: the connections that are open.
    """

    def __init__(
        self,
        done: Callable[[Connection, int, int], None],
        everybody: set[Connection],
    ) -> None:
        self.done = done
        self._everybody = everybody
        self.open = True
        self._buffer = b""
        self._asked = False
        self._left = -1
        self._status = self._retry_after = BROKEN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own are not of that class
        self._everybody.add(self)

    def ask(self, request: bytes) -> None:
        self._asked = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._left < 0:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            self._read_head(head.lower())
            self._buffer = rest
        if len(self._buffer) >= self._left:
            self._buffer, self._left, self._asked = b"", -1, False
            self.done(self, self._status, self._retry_after)

    def _read_head(self, head: bytes) -> None:
        self._status = int(head[9:12])
        self._left = int(_value(head, b"content-length", b"0"))
        self._retry_after = int(_value(head, b"retry-after", b"0"))
        if b"\r\nconnection: close" in head:
            self.open = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._everybody.discard(self)
        if self._asked:
            self._asked = False
            self.done(self, BROKEN, 0)


def _value(head: bytes, name: bytes, default: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b": ")
    return default if start < 0 else head[start + len(name) + 4 :].split(b"\r\n", 1)[0]


@dataclass(slots=True)
class _Sent:
    """One request: its number, when it was due on the loop's clock, how often it was refused."""

    number: int
    due: float
    refused: int = 0


class Generator:
    """Sends requests to one address.

    Args:
        keep_alive: whether a connection is used again once it is answered.
        retry: told a refused request's answer and how often it was refused before; when to send
            it again, in seconds, or None.
    """

    def __init__(
        self,
        address: tuple[str, int],
        requests: Sequence[bytes],
        *,
        keep_alive: bool = True,
        retry: Callable[[Answer, int], float | None] = lambda *_: None,
    ) -> None:
        self._address = address
        self._requests = requests
        self._keep_alive = keep_alive
        self._retry = retry
        self._idle: list[Connection] = []
        self._everybody: set[Connection] = set()
        self._pending = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._finished = asyncio.Event()
        self._started = self._busy_until = 0.0
        self._clients = 1
        self.load = Load()

    async def offer(self, rate: float, seconds: float) -> Load:
        """Send at a rate for so long, then wait for the last answers."""
        loop = asyncio.get_running_loop()
        self._started = start = loop.time()
        self.load.seconds = seconds
        sent = 0
        try:
            while (elapsed := loop.time() - start) < seconds:
                while sent < elapsed * rate:
                    due = start + sent / rate
                    self.load.late_s = max(self.load.late_s, loop.time() - due)
                    self._send(_Sent(sent, due))
                    sent += 1
                await asyncio.sleep(_TICK_S)
            await self._settle()
        finally:
            await self._hang_up()
        return self.load

    async def keep_busy(self, clients: int, seconds: float) -> Load:
        """Closed loop: so many clients, each asking again once it is answered."""
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._busy_until = self._started + seconds
        return await self.send_at_once(clients, seconds)

    async def send_at_once(self, count: int, seconds: float = 1.0) -> Load:
        """So many requests in one go, over as many connections."""
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self.load.seconds = seconds
        self._clients = count
        for number in range(count):
            self._send(_Sent(number, loop.time()))
        await self._settle()
        await self._hang_up()
        return self.load

    async def _settle(self) -> None:
        """Wait until every request has its end."""
        while self._pending:
            self._finished.clear()
            await self._finished.wait()

    async def _hang_up(self) -> None:
        for task in self._connecting:
            task.cancel()
        for connection in self._everybody:
            connection.transport.abort()
        while self._everybody or self._connecting:
            await asyncio.sleep(_TICK_S)

    def _send(self, sent: _Sent) -> None:
        """Send one request now, over an idle connection or a new one."""
        self._pending += 1
        done = partial(self._end, sent)
        request = self._requests[sent.number % len(self._requests)]
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                connection.done = done
                connection.ask(request)
                return
        task = asyncio.create_task(self._connect(request, done))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, request: bytes, done: Callable[[Connection, int, int], None]) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(done, self._everybody)
        try:
            await loop.create_connection(lambda: connection, *self._address)
        except OSError:
            connection.open = False
            done(connection, BROKEN, 0)
        else:
            connection.ask(request)

    def _end(self, sent: _Sent, connection: Connection, status: int, retry_after: int) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        answer = Answer(status, now - sent.due, now - self._started, retry_after)
        self.load.answers.append(answer)
        if connection.open and self._keep_alive:
            self._idle.append(connection)
        elif connection.open:
            connection.transport.close()
        delay = self._retry(answer, sent.refused) if status == 429 else None
        if delay is not None:
            again = _Sent(sent.number, now + delay, sent.refused + 1)
            self._pending += 1
            loop.call_later(delay, self._resend, again)
        elif now < self._busy_until:
            # The next that no other client has: equal ones in flight would be one image.
            self._send(_Sent(sent.number + self._clients, now))
        self._pending -= 1
        if not self._pending:
            self._finished.set()

    def _resend(self, sent: _Sent) -> None:
        self._pending -= 1
        self._send(sent)


async def probe(address: tuple[str, int], paths: Sequence[str], seconds: float) -> Load:
    """Ask for paths in turn, ten times a second, as an orchestrator does: a connection each."""
    requests = [create_request(path) for path in paths]
    return await Generator(address, requests, keep_alive=False).offer(10, seconds)
