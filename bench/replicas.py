"""Two replicas of one core each against one process of two; run it with `make bench-replicas`.

Measures in turns, so that a slow moment of the machine slows all: one process on two cores, the
same behind nginx, and two processes on one core each behind nginx. Then kills one of the two under
load, starts it again, and counts what was lost. Writes its section of docs/performance.md.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.arguments import create_parser
from bench.documents import write_section
from bench.load import Load, LoadGenerator
from bench.load_balancer import LoadBalancer
from bench.photos import load_photos
from bench.server import ServerProcess

CONNECTIONS = 16

ONE, ONE_BEHIND, TWO_BEHIND = (
    "one process, two cores",
    "one process, two cores, behind nginx",
    "two processes, one core each, behind nginx",
)


class Failure:
    """What the death of one replica cost.

    Attributes:
        held: requests inside the killed one when it was killed.
        lost: requests that failed, by what happened meanwhile.
        images_per_s: by who was alive.
    """

    def __init__(self) -> None:
        self.held = 0
        self.lost: dict[str, int] = {}
        self.images_per_s: dict[str, float] = {}

    def measure(self, run: Callable[[float], Load], victim: ServerProcess, seconds: float) -> None:
        """Kill one of two under load, go on with the other, start it again under load."""

        def kill() -> None:
            time.sleep(seconds / 2)
            self.held = _in_flight(victim.url)
            victim.kill()

        def load(seconds: float) -> tuple[float, int]:
            seen = run(seconds)
            return seen.images_per_s, round(seen.refused_per_s * seconds) + seen.broken

        with _meanwhile(kill):
            _, self.lost["one is killed"] = load(seconds)
        self.images_per_s["one left"], self.lost["one is left"] = load(seconds)
        with _meanwhile(victim.start):
            _, self.lost["the other starts again"] = load(2 * seconds)
        self.images_per_s["both again"], self.lost["both are back"] = load(seconds)

    def text(self) -> str:
        """In Markdown."""
        lost = ", ".join(f"{count} while {when}" for when, count in self.lost.items())
        speed = ", ".join(f"{speed:.1f} ({who})" for who, speed in self.images_per_s.items())
        return (
            f"One of the two was killed while it held {self.held} of {CONNECTIONS} requests. "
            f"Failed requests: {lost}. Images/s: {speed}."
        )


def measure_speed(
    runs: dict[str, Callable[[float], Load]], rounds: int, seconds: float
) -> dict[str, list[Load]]:
    """Take every figure once a round."""
    loads: dict[str, list[Load]] = defaultdict(list)
    for _ in range(rounds):
        for name, run in runs.items():
            loads[name].append(run(seconds))
    return loads


def table(loads: dict[str, list[Load]]) -> str:
    """Medians and ratios to the other two, both of one round, in Markdown."""
    lines = [
        "| | images/s | of one process | of one behind nginx | p50 ms | p99 ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, taken in loads.items():
        speed, p50, p99 = (
            statistics.median(getattr(load, field) for load in taken)
            for field in ("images_per_s", "p50_ms", "p99_ms")
        )
        ratios = " | ".join(
            f"{_median_ratio(taken, loads[reference]):.2f}" for reference in (ONE, ONE_BEHIND)
        )
        lines.append(f"| {name} | {speed:.1f} | {ratios} | {p50:.1f} | {p99:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=5, seconds=4)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:  # noqa: PLR2004  # it is about two
        sys.exit("two cores are needed")
    first, second = ([core] for core in cores)
    failure = Failure()
    # A stream a core, given: a noisy moment at start must not choose another number.
    with (
        LoadGenerator(load_photos(arguments.photos)) as generator,
        ServerProcess(cores=cores, streams=2) as one,
        ServerProcess(cores=first, streams=1) as left,
        ServerProcess(cores=second, streams=1) as right,
        LoadBalancer([one.url]) as before_one,
        LoadBalancer([left.url, right.url]) as before_two,
    ):

        def run_at(url: str) -> Callable[[float], Load]:
            return lambda seconds: generator.run(url, "raw", CONNECTIONS, seconds)

        runs = {
            ONE: run_at(one.url),
            ONE_BEHIND: run_at(before_one.url),
            TWO_BEHIND: run_at(before_two.url),
        }
        loads = measure_speed(runs, arguments.rounds, arguments.seconds)
        failure.measure(runs[TWO_BEHIND], right, arguments.seconds)
    text = f"{table(loads)}\n\n{failure.text()}"
    print(text)
    write_section("performance.md", "replicas", text)


@contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _in_flight(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310  # our own address
        found = re.search(rb"^mobilenet_in_flight_requests (\S+)", answer.read(), re.MULTILINE)
    if found is None:
        raise RuntimeError("the service does not count its requests")
    return int(float(found[1])) - 1  # without this one


def _median_ratio(loads: list[Load], references: list[Load]) -> float:
    return statistics.median(
        load.images_per_s / reference.images_per_s
        for load, reference in zip(loads, references, strict=True)
    )


if __name__ == "__main__":
    main()
