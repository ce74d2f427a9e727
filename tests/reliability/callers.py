"""Callers that ask at a steady rate while a server ends, and remember what became of each call."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

REFUSED = "refused"
"""The connection could not be had: nobody listens. The request was never sent."""
LOST = "lost"
"""The request was sent, or could have been, and the connection ended without an answer."""


@dataclass(slots=True)
class Calls:
    """What became of them.

    Attributes:
        outcomes: how often each status, or one of the above, came.
        answers: the distinct predictions of those that were answered with 200, as JSON.
        lost: when and how those that were lost were.
        last_s: when the last answer came, on the monotonic clock.
    """

    outcomes: Counter[int | str] = field(default_factory=Counter)
    answers: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    last_s: float = 0.0


class Caller:
    """Sends an image again and again.

    Args:
        request: a whole one.
        every_s: from the beginning of one call to that of the next, if the answer is there by then.
        keep_alive: use a connection again, while the server allows it.
    """

    def __init__(
        self, host: str, port: int, request: bytes, every_s: float, *, keep_alive: bool
    ) -> None:
        self._address = host, port
        self._request = request
        self._every_s = every_s
        self._keep_alive = keep_alive
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, calls: Calls, start_s: float) -> None:
        """Call until nobody listens any more."""
        due = time.monotonic() + start_s
        while not calls.outcomes[REFUSED]:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._every_s, time.monotonic())
            if self._connection and self._connection[0].at_eof():
                self.close()  # closed while it was idle, which every client sees
            try:
                connection = self._connection or await asyncio.open_connection(*self._address)
            except ConnectionRefusedError:
                calls.outcomes[REFUSED] += 1
                return
            except OSError as error:
                self._lose(calls, f"connecting: {error!r}")
                continue
            reused, self._connection = self._connection is not None, connection
            try:
                await self._call(calls, *connection)
            except (OSError, EOFError) as error:
                self._lose(calls, f"{'reused' if reused else 'new'}: {error!r}")

    async def _call(
        self, calls: Calls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self._request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        headers = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:-1])
        body: Any = json.loads(await reader.readexactly(int(headers["content-length"])))
        calls.outcomes[status] += 1
        calls.last_s = time.monotonic()
        if status == 200:
            calls.answers.add(json.dumps(body["predictions"]))
        if not self._keep_alive or headers.get("connection") == "close":
            self.close()

    def _lose(self, calls: Calls, how: str) -> None:
        calls.outcomes[LOST] += 1
        calls.lost.append(f"{time.monotonic():.3f} {how}")
        self.close()

    def close(self) -> None:
        """Use the connection no more."""
        if self._connection:
            self._connection[1].close()
            self._connection = None
