"""More than the service can do, for a minute each: open loop, on one core of its own."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.corpus.server import Watched
from tests.reliability.generator import Generator, probe
from tests.reliability.length import LOAD_S, TOLERANCE
from tests.reliability.load import Answer, Load, create_request
from tests.reliability.pinned import CLASSIFY, core_share, counts, run, serve_pinned

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

QUEUE_MS = 500
PROBES = ("/livez", "/readyz")
Report = Callable[[str, object], None]


@pytest.fixture
def report(record_property: Report) -> Report:
    """Writes a figure into the report, and shows it with `-s`."""

    def write(name: str, value: object) -> None:
        record_property(name, value)
        print(f"  {name}: {value}")  # noqa: T201  # `-s` asks for it

    return write


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    with serve_pinned() as server:
        yield server


@pytest.fixture(autouse=True)
def _every_request_has_one_outcome(server: Watched) -> Iterator[None]:
    yield
    server.check()


def settled(server: Watched) -> Counter[str]:
    return Counter({status: int(count) for status, count in counts(server).items()})


def batch_ms(server: Watched) -> float:
    """The service time of an accepted image: as many at once as are computed at once."""
    info = server.client.get("/info").json()
    images = info["streams"] * info["max_batch_size"]
    load = run(Generator(server.address, CLASSIFY).keep_busy(images, LOAD_S / 12))
    return load.latency_ms(200, 0.5)


@pytest.fixture(scope="module")
def capacity(server: Watched) -> float:
    """Photos a second of sixteen clients that each ask again once they are answered."""
    run(Generator(server.address, CLASSIFY).keep_busy(16, LOAD_S / 12))  # all is warm
    return run(Generator(server.address, CLASSIFY).keep_busy(16, LOAD_S / 4)).goodput()


@dataclass(frozen=True, slots=True)
class Seen:
    """A load, what the probes saw meanwhile, and goodput by the share of its core that it had.

    Attributes:
        counted: what the server says of it.
    """

    load: Load
    probes: Load
    goodput: float
    counted: Counter[str]


def offer(server: Watched, rate: float, seconds: float, **options: Any) -> Seen:
    async def all_three() -> Seen:
        load, probes, share = await asyncio.gather(
            Generator(server.address, CLASSIFY, **options).offer(rate, seconds),
            probe(server.address, PROBES, seconds),
            core_share(server, seconds),
        )
        return Seen(load, probes, load.goodput() / share, settled(server) - before)

    before = settled(server)
    return run(all_three())


@pytest.fixture(scope="module")
def best_rate(server: Watched, capacity: float) -> float:
    """The rate around capacity with the best goodput, sent as the others are, open loop."""
    rates = [times * capacity for times in (1, 1.1, 1.25)]
    return max(rates, key=lambda rate: offer(server, rate, LOAD_S / 4).goodput)


def overload(server: Watched, rate: float, best_rate: float, **options: Any) -> tuple[Seen, float]:
    """A load, and the goodput that was possible then: before and after it, as machines vary."""
    before = offer(server, best_rate, LOAD_S / 4)
    seen = offer(server, rate, LOAD_S, **options)
    after = offer(server, best_rate, LOAD_S / 4)
    return seen, (before.goodput + after.goodput) / 2


def check_outcomes(seen: Counter[str], load: Load) -> None:
    """Every request has one outcome, and both sides count the same."""
    assert set(load.statuses) == {200, 429}
    assert seen == {str(status): count for status, count in load.statuses.items()}
    assert all(1 <= a.retry_after <= 2 for a in load.answers if a.status == 429)


@pytest.mark.parametrize("overloaded", [(2, 0.97), (5, 0.93), (10, 0.88)], ids=str)
def test_goodput_holds_and_accepted_requests_are_fast(
    server: Watched,
    capacity: float,
    best_rate: float,
    report: Report,
    overloaded: tuple[int, float],
) -> None:
    times, share = overloaded
    service_ms = batch_ms(server)
    seen, peak = overload(server, times * capacity, best_rate)
    load, probes = seen.load, seen.probes
    check_outcomes(seen.counted, load)
    quantiles = {
        "accepted": [load.latency_ms(200, share) for share in (0.5, 0.99)],
        "refused": [load.latency_ms(429, share) for share in (0.5, 0.99, 1)],
        "probes": [probes.latency_ms(200, share) for share in (0.5, 0.99, 1)],
    }
    report("goodput", f"{load.goodput():.1f}/s; {capacity:.1f} closed loop")
    report("goodput of a whole core", f"{seen.goodput:.1f}/s; peak {peak:.1f}")
    report("share of the peak", f"{seen.goodput / peak:.3f}")
    report("statuses", dict(load.statuses))
    for name, values in quantiles.items():
        report(f"{name}: p50, p99, max in ms", [round(value, 1) for value in values])
    report("service time in ms", round(service_ms, 1))
    report("generator late at most, in ms", round(load.late_s * 1000, 1))
    assert set(probes.statuses) == {200}
    assert quantiles["probes"][-1] < 500
    assert quantiles["refused"][1] <= 50
    assert quantiles["accepted"][1] <= (QUEUE_MS + 2 * service_ms) * (1 + 2 * TOLERANCE)
    assert seen.goodput >= (share - TOLERANCE) * peak


def test_clients_of_one_connection_a_request_cost_little_more(
    server: Watched, capacity: float, best_rate: float, report: Report
) -> None:
    seen, peak = overload(server, 5 * capacity, best_rate, keep_alive=False)
    load, probes = seen.load, seen.probes
    report("share of the peak", f"{seen.goodput / peak:.3f}")
    report("refused: p99 in ms", round(load.latency_ms(429, 0.99), 1))
    report("probes: max in ms", round(probes.latency_ms(200, 1), 1))
    assert set(load.statuses) == {200, 429}
    assert seen.goodput >= (0.8 - TOLERANCE) * peak
    assert probes.latency_ms(200, 1) < 500


def test_it_recovers_within_two_seconds(server: Watched, capacity: float, report: Report) -> None:
    def alone() -> float:
        return run(Generator(server.address, CLASSIFY).offer(capacity / 4, 5)).latency_ms(200, 0.5)

    baseline = alone()

    async def stop_abruptly() -> None:
        offer = Generator(server.address, CLASSIFY).offer(10 * capacity, 3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(offer, LOAD_S / 4)

    run(stop_abruptly())
    time.sleep(2)
    queue = re.search(
        r"^mobilenet_queue_depth (.+)$", server.client.get("/metrics").text, re.MULTILINE
    )
    after = alone()
    report("p50 before and after, in ms", [round(baseline, 1), round(after, 1)])
    assert queue
    assert float(queue[1]) == 0
    assert after <= 1.1 * baseline + 1


def test_goodput_survives_a_storm_of_retries(
    server: Watched, capacity: float, best_rate: float, report: Report
) -> None:
    def retry(_: Answer, refused: int) -> float | None:
        return 0.0 if refused < 3 else None

    seen, peak = overload(server, 2 * capacity, best_rate, retry=retry)
    report("share of the peak", f"{seen.goodput / peak:.3f}")
    report("statuses", dict(seen.load.statuses))
    assert set(seen.load.statuses) == {200, 429}
    assert seen.goodput >= (0.85 - TOLERANCE) * peak


def test_clients_that_wait_as_told_are_all_served(server: Watched, report: Report) -> None:
    def retry(answer: Answer, _: int) -> float:
        return answer.retry_after

    async def ask() -> Load:
        generator = Generator(server.address, CLASSIFY, retry=retry)
        async with asyncio.timeout(60):
            return await generator.send_at_once(256)

    load = run(ask())
    report("statuses", dict(load.statuses))
    report("the last was served after, in s", round(max(a.at for a in load.answers), 1))
    assert load.statuses[200] == 256
    assert set(load.statuses) <= {200, 429}


def test_a_thousand_connections_at_once_are_all_answered(server: Watched, report: Report) -> None:
    load = run(Generator(server.address, CLASSIFY, keep_alive=False).send_at_once(1000))
    report("statuses", dict(load.statuses))
    report("answered: p50 and max in ms", [round(load.latency_ms(429, q)) for q in (0.5, 1)])
    assert set(load.statuses) == {200, 429}
    assert load.statuses.total() == 1000


def test_reading_metrics_a_hundred_times_a_second_changes_nothing(
    server: Watched, capacity: float, report: Report
) -> None:
    def usual() -> Load:
        return run(Generator(server.address, CLASSIFY).offer(capacity / 2, LOAD_S / 4))

    async def scraped() -> Load:
        scraper = Generator(server.address, [create_request("/metrics")])
        load, scrapes = await asyncio.gather(
            Generator(server.address, CLASSIFY).offer(capacity / 2, LOAD_S / 4),
            scraper.offer(100, LOAD_S / 4),
        )
        assert set(scrapes.statuses) == {200}
        return load

    alone, beside = usual(), run(scraped())
    report(
        "p99 without and with, in ms", [round(x.latency_ms(200, 0.99), 1) for x in (alone, beside)]
    )
    assert set(beside.statuses) == {200}
    assert beside.latency_ms(200, 0.99) <= 2 * alone.latency_ms(200, 0.99)
