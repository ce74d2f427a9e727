"""A client that says anything over a socket, and reads what it is told until the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Answer:
    """One answer: its status, its headers by name in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def talk(address: tuple[str, int], data: bytes, timeout_s: float = 30) -> bytes:
    """Send, and read until the server closes; a reset is an end too.

    Raises:
        TimeoutError: it does not close in time.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(*address)
        answer = b""
        try:
            with suppress(ConnectionError):
                writer.write(data)
                while piece := await reader.read(65_536):
                    answer += piece
        finally:
            writer.transport.abort()
    return answer


def parse(data: bytes, *, whole: bool = True) -> list[Answer]:
    """The answers in what a server has said, interim ones left out.

    Args:
        data: all of it.
        whole: whether the last one must be complete; it is not where the client was cut off.

    Raises:
        ValueError: it is not a row of HTTP/1.1 answers with a length.
    """
    answers = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end and not whole:
            break
        line, *fields = head.decode("latin-1").split("\r\n")
        version, status = line.split()[:2]
        if version != "HTTP/1.1" or not end:
            raise ValueError(f"no answer: {data[:100]!r}")
        headers = {
            name.lower(): value for name, value in (field.split(": ", 1) for field in fields)
        }
        if status == "100":
            data = rest
            continue
        length = 0 if status in {"204", "304"} else int(headers["content-length"])
        if len(rest) < length and whole:
            raise ValueError(f"cut off: {data[:100]!r}")
        answers.append(Answer(int(status), headers, rest[:length]))
        data = rest[length:]
    return answers


async def in_parallel(
    items: Iterable[_T], count: int, work: Callable[[_T], Awaitable[_R]]
) -> list[_R]:
    """Work on items, so many at once; the results, in the order in which they were there."""
    waiting, results = iter(items), []

    async def worker() -> None:
        for item in waiting:
            results.append(await work(item))  # noqa: PERF401  # many workers fill it

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(worker())
    return results
