"""GET /live: what viewers see, and what they may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, cast
from unittest.mock import Mock

import httpx2
import pytest

from app.api.page import live
from app.api.page.live import KEPT, MAX_VIEWERS, Live
from app.errors import OverloadedError, ShuttingDownError
from app.telemetry.metrics import Metrics
from tests.conftest import LiveServer, serve
from tests.fakes import FakeClock, FakeEngine, FakeLoop
from tests.image_files import uniform

pytestmark = pytest.mark.anyio

HOUR = 3600
_REQUESTS = "mobilenet_requests_total"


class Watched:
    """A `Live` whose time is the test's."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.metrics = Metrics()
        self.clock = FakeClock()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.live = Live(self.metrics, ["/classify"], lambda: loop, self.clock)

    def answer(self, status: str, route: str = "/classify", times: int = 1) -> None:
        self.metrics.requests.labels(route, status).inc(times)

    def batch(self, size: int) -> None:
        self.metrics.batch_size.observe(size)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.time += seconds
        self.loop.advance(seconds)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def read(stream: AsyncIterator[str]) -> Any:
    return json.loads(await anext(stream))


async def test_a_snapshot_tells_what_happened_since_the_one_before(watched: Watched) -> None:
    watched.answer("200", times=40)
    watched.batch(4)
    with watched.live.admit():
        stream = watched.live.watch()
        first = await read(stream)
        assert (first["requests"], first["batches"], first["seconds"]) == (0, {}, 0)
        watched.answer("200", times=7)
        watched.answer("429", times=2)
        watched.answer("503")
        watched.answer("200", "/livez", times=100)
        for size in (1, 3, 3, 8):
            watched.batch(size)
        watched.metrics.queue_depth.set(5)
        watched.pass_seconds(1)
        second = await read(stream)
    assert (second["requests"], second["refused"]) == (10, 3)
    assert second["batches"] == {"1": 1, "4": 2, "8": 1}
    assert (second["images"], second["waiting"], second["ready"]) == (15, 5, False)
    assert (second["seconds"], second["at"] - first["at"]) == (1, 1)


async def test_many_viewers_cost_one_sampling(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Mock(side_effect=watched.live._read)
    monkeypatch.setattr(watched.live, "_read", look)
    with ExitStack() as viewing:
        for _ in range(MAX_VIEWERS):
            viewing.enter_context(watched.live.admit())
        streams = [watched.live.watch() for _ in range(MAX_VIEWERS)]
        watched.pass_seconds(3)
        assert look.call_count == 4
        assert watched.loop.waiting == 1
        for stream in streams:
            assert [(await read(stream))["seconds"] for _ in range(4)] == [0, 1, 1, 1]


async def test_nothing_runs_while_nobody_watches(watched: Watched) -> None:
    assert watched.loop.timers == 0
    with watched.live.admit():
        with watched.live.admit():
            assert watched.loop.waiting == 1
        assert watched.loop.waiting == 1
    assert watched.loop.waiting == 0
    watched.pass_seconds(HOUR)
    watched.answer("200")
    with watched.live.admit():
        first = await read(watched.live.watch())
    assert (first["requests"], first["seconds"]) == (0, 0)


async def test_who_comes_later_is_given_the_last_minute_first(watched: Watched) -> None:
    with watched.live.admit():
        for _ in range(2 * KEPT):
            watched.answer("200")
            watched.pass_seconds(1)
        with watched.live.admit():
            stream = watched.live.watch()
            times = [(await read(stream))["at"] for _ in range(KEPT)]
            assert times == [watched.clock.time - KEPT + 1 + second for second in range(KEPT)]
            next_one = asyncio.ensure_future(read(stream))
            await asyncio.sleep(0)
            assert not next_one.done()
            watched.pass_seconds(1)
            assert (await next_one)["at"] == watched.clock.time


async def test_a_viewer_who_reads_too_slowly_is_dropped(watched: Watched) -> None:
    with watched.live.admit():
        slow, steady = watched.live.watch(), watched.live.watch()
        await read(slow)
        await read(steady)
        for _ in range(KEPT + 1):
            watched.pass_seconds(1)
            await read(steady)
        assert [one async for one in slow] == []


async def test_viewers_are_bounded_and_a_place_that_is_free_is_given_again(
    watched: Watched,
) -> None:
    with ExitStack() as viewing:
        for _ in range(MAX_VIEWERS):
            viewing.enter_context(watched.live.admit())
        with pytest.raises(OverloadedError, match="100 viewers"), watched.live.admit():
            pass
        assert watched.live.viewers == MAX_VIEWERS
    with watched.live.admit():
        assert watched.live.viewers == 1


async def test_closing_ends_every_stream_and_lets_nobody_in(watched: Watched) -> None:
    with watched.live.admit():
        stream = watched.live.watch()
        await read(stream)
        next_one = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
        watched.live.close()
        assert await next_one is None
        assert watched.loop.waiting == 0
        with pytest.raises(ShuttingDownError), watched.live.admit():
            pass


# Through a real server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.02)


def snapshots(answer: httpx2.Response) -> Iterator[Any]:
    for line in answer.iter_lines():
        if line:
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.usefixtures("quick")
def test_a_viewer_sees_requests_batches_and_refusals(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as server, httpx2.stream("GET", f"{server.url}/live") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-cache"
        seen = snapshots(answer)
        next(seen)
        url = f"{server.url}/classify"
        assert httpx2.post(url, files={"file": uniform(1)}).status_code == 200
        full = Mock(side_effect=OverloadedError)
        monkeypatch.setattr(server.batcher.admission, "check", full)
        assert httpx2.post(url, files={"file": uniform(2)}).status_code == 429
        requests = refused = 0
        sizes: dict[str, int] = {}
        while requests < 2:
            one = next(seen)
            requests, refused = requests + one["requests"], refused + one["refused"]
            sizes |= one["batches"]
    assert (requests, refused, sizes) == (2, 1, {"1": 1})


@pytest.mark.usefixtures("quick")
def test_a_healthy_stream_outlives_every_deadline_and_is_no_request_under_way(
    fake_engine: FakeEngine,
) -> None:
    limits: dict[str, Any] = dict.fromkeys(
        ("header_timeout_s", "body_timeout_s", "write_timeout_s", "keep_alive_s"), 0.05
    )
    with (
        serve(request_timeout_s=0.05, **limits) as server,
        httpx2.stream("GET", f"{server.url}/live") as answer,
    ):
        seen = 0.0
        for one in snapshots(answer):
            seen += one["seconds"]
            assert one["in_flight"] == 0
            if seen > 4 * 0.05:
                break
        metrics = httpx2.get(f"{server.url}/metrics").text
        assert "mobilenet_in_flight_requests 1.0" in metrics  # the one that asks


def test_a_proxy_is_asked_not_to_hold_snapshots_back(live_server: LiveServer) -> None:
    with httpx2.stream("GET", f"{live_server.url}/live") as answer:
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.usefixtures("quick")
def test_viewers_beyond_the_bound_are_told_so(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_VIEWERS", 1)
    with serve() as server:
        url = f"{server.url}/live"
        with httpx2.stream("GET", url) as first:
            seen = snapshots(first)
            next(seen)  # kept: a generator that is dropped hangs up
            refused = httpx2.get(url)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
            assert "viewers watch already" in refused.json()["detail"]
        server.wait_for(lambda: not viewers(server))
        with httpx2.stream("GET", url) as second:
            assert second.status_code == 200


def viewers(server: LiveServer) -> int:
    watched: Live = server.server.parts.live
    return watched.viewers


@pytest.mark.usefixtures("quick")
def test_a_server_that_stops_ends_its_viewers_streams_and_does_not_wait_for_them(
    fake_engine: FakeEngine,
) -> None:
    with ExitStack() as streams:
        with serve() as server:
            url = f"{server.url}/live"
            answers = [streams.enter_context(httpx2.stream("GET", url)) for _ in range(3)]
            seen = [snapshots(answer) for answer in answers]
            assert all(map(next, seen))
        for stream in seen:
            list(stream)  # of a stream that is cut, this would raise


def test_a_viewer_who_leaves_gives_the_place_back(fake_engine: FakeEngine) -> None:
    with serve() as server:
        with httpx2.stream("GET", f"{server.url}/live") as answer:
            assert answer.status_code == 200
            server.wait_for(lambda: viewers(server) == 1)
        server.wait_for(lambda: viewers(server) == 0)
        assert server.metric("mobilenet_in_flight_requests") == 0
        server.wait_for(lambda: server.metric(_REQUESTS, route="/live", status="200") == 1)
        assert server.metric("mobilenet_request_duration_seconds_count", route="/live") == 0
