"""Writes an answer's head and body in one system call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class CoalescingTransport(asyncio.Transport):
    """The transport as the answer to a request sees it; `on_close` is called instead of closing.

    uvicorn writes head and body apart, and each write is a system call that wakes the client. Here
    writes wait for `flush`, or for the loop's next turn.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        on_close: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._on_close = on_close
        self._loop = loop
        self._buffer: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer the data."""
        if not self._buffer:
            self._loop.call_soon(self._flush_if_open)
        self._buffer.append(data)

    def flush(self) -> None:
        """Write what is buffered."""
        buffer, self._buffer = self._buffer, []
        if buffer:
            self._transport.writelines(buffer)

    def _flush_if_open(self) -> None:
        if self.is_closing():
            self._buffer = []
        self.flush()

    def is_closing(self) -> bool:
        """Whether the connection is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Let the protocol close the connection."""
        self._on_close()
