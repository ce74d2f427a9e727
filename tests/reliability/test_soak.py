"""Good, bad, leaving and slow clients at once, and nothing is left of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress

import httpx2
import pytest

from tests.corpus.row import CAT
from tests.corpus.server import Watched, watch
from tests.reliability.client import parse, talk
from tests.reliability.mix import bad, closing, good_images
from tests.reliability.mutation import post

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

PER_S = 60
"""Clients that come; not more than can be answered."""
SHARES = {"good": 40, "bad": 30, "leaving": 20, "slow": 10}
LEAST_GOOD = 0.99
BODY_TIMEOUT_S, SLOW_S = 8, 12
"""Slow clients take longer than they may, to send their headers or their body."""
GROWTH_MIB = 20
THREADS_TO_SPARE = 8
"""Threads for large bodies start when they are needed, and stay."""


def _scores(body: bytes) -> dict[int, float]:
    return {one["class_id"]: one["score"] for one in json.loads(body)["predictions"]}


class Chaos:
    """Clients of every kind, and what became of them."""

    def __init__(self, server: Watched) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self._address = server.address
        self._chance = random.Random(36)  # noqa: S311  # reproducible, not secret
        asked = httpx2.post(f"{server.url}/classify", files={"file": CAT.read_bytes()})
        self._golden = _scores(asked.content)

    async def run(self, seconds: float) -> None:
        """Let them come at even distances, whether the ones before are done or not."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * PER_S)):
                await asyncio.sleep(begin + number / PER_S - loop.time())
                (kind,) = self._chance.choices(list(SHARES), list(SHARES.values()))
                group.create_task(getattr(self, kind)())

    async def good(self) -> None:
        request = closing(post("/classify", CAT.read_bytes(), "image/jpeg"))
        (answer,) = parse(await talk(self._address, request))
        self.seen["good", answer.status] += 1
        if answer.status == 200:
            assert _scores(answer.body) == pytest.approx(self._golden, abs=1e-4)

    async def bad(self) -> None:
        (answer,) = parse(await talk(self._address, closing(bad(self._chance))))
        assert answer.status in {400, 413, 415, 422, 429}
        self.seen["bad", answer.status] += 1

    async def leaving(self) -> None:
        """Anywhere: in the headers, in the body, or before the answer."""
        request = post("/embed", self._chance.choice(good_images()), "image/jpeg")
        end = self._chance.choice((30, 200, len(request) // 2, len(request)))
        await self._trickle([request[:end]], self._chance.choice((0, 0.005, 0.05)))
        self.seen["leaving", 0] += 1

    async def slow(self) -> None:
        """A byte now and then, of the headers or of the body; it hears why it is cut off."""
        request = post("/classify", CAT.read_bytes(), "image/jpeg")
        begun = self._chance.choice((10, 5000))
        pieces = [request[:begun], *(request[at : at + 1] for at in range(begun, begun + SLOW_S))]
        (answer,) = parse(await self._trickle(pieces, 1))
        assert answer.status == 408
        self.seen["slow", answer.status] += 1

    async def _trickle(self, pieces: list[bytes], pause_s: float) -> bytes:
        """Send pieces with pauses until the server closes or there are no more."""
        reader, writer = await asyncio.open_connection(*self._address)
        answer = asyncio.create_task(reader.read())
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.wait([answer], timeout=pause_s)
                if answer.done():
                    return answer.result()
            return b""
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await answer


def test_chaos_leaves_nothing_behind(request: pytest.FixtureRequest) -> None:
    seconds: float = request.config.getoption("--load-seconds")
    with watch(f"--body-timeout-s={BODY_TIMEOUT_S}") as server:
        chaos = Chaos(server)
        asyncio.run(chaos.run(min(seconds, 20)))  # what the first ones load stays
        server.check()
        files, threads, held = server.files(), server.threads(), server.rss_mib()
        chaos.seen.clear()
        asyncio.run(chaos.run(seconds))
        server.check()
        assert server.files() <= files
        assert server.threads() <= threads + THREADS_TO_SPARE
        assert server.rss_mib() <= held + GROWTH_MIB
        server.check_log()
    good = sum(count for (kind, _), count in chaos.seen.items() if kind == "good")
    assert chaos.seen["good", 200] >= LEAST_GOOD * good
    assert {kind for kind, _ in chaos.seen} == set(SHARES)
