"""The image with a quota of one core against two; run it with `make bench-container`.

Measures in turns, so that a slow moment of the machine slows both. Writes its section of
docs/performance.md. CONTAINERS in the environment is the engine's command, `docker` by default.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from bench.arguments import create_parser
from bench.documents import write_section
from bench.load import LoadGenerator
from bench.photos import load_photos
from bench.server import wait_until_ready

CONNECTIONS = 16
CPUS = (1, 2)

_START_S = 60
_STAT = "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.stat"


@dataclass(frozen=True)
class Periods:
    """The scheduler's account of a quota, so far."""

    periods: int
    throttled: int


@dataclass(frozen=True)
class Measurement:
    """One run of load: images a second, and the share of the periods that were throttled."""

    images_per_s: float
    throttled: float


class Container:
    """A context manager: entering waits until the service in it is ready.

    Args:
        image: what to run.
        cpus: its quota, in cores.
        more: flags of the engine's `run`.

    Attributes:
        ready_s: seconds from the command that starts it to the first 200 of /readyz.
    """

    def __init__(self, image: str, cpus: int, more: Sequence[str] = ()) -> None:
        self._engine = shlex.split(os.environ.get("CONTAINERS") or "docker")
        lock_down = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        # A stream a core, given: a noisy moment at start must not choose another number.
        quota = [f"--cpus={cpus}", f"--env=MOBILENET_STREAMS={cpus}"]
        flags = ["--detach", "--rm", "--publish=127.0.0.1::8000", *quota, *lock_down, *more]
        self._start = ["run", *flags, image]

    def __enter__(self) -> Self:
        """Start it."""
        started = time.perf_counter()
        self._name = self._command(*self._start)
        self.url = "http://" + self._command("port", self._name, "8000/tcp").splitlines()[0]
        wait_until_ready(self.url, _START_S)
        self.ready_s = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._command("stop", self._name)

    @property
    def threads(self) -> int:
        """Threads of the service."""
        return len(self._command("exec", self._name, "ls", "/proc/1/task").split())

    @property
    def peak_mib(self) -> float:
        """Most resident memory of the service so far, in MiB."""
        status = self._command("exec", self._name, "cat", "/proc/1/status")
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024

    @property
    def state(self) -> str:
        """Whether it was out of memory, whether it runs, and how often it was started anew."""
        fields = "{{.State.OOMKilled}} {{.State.Running}} {{.RestartCount}}"
        return self._command("inspect", "--format", fields, self._name)

    def measure(self, generator: LoadGenerator, seconds: float) -> Measurement:
        """Load it, and see how often it was throttled meanwhile."""
        before = self._periods()
        load = generator.run(self.url, "raw", CONNECTIONS, seconds)
        after = self._periods()
        periods = max(1, after.periods - before.periods)
        return Measurement(load.images_per_s, (after.throttled - before.throttled) / periods)

    def _periods(self) -> Periods:
        stat = self._command("exec", self._name, "sh", "-c", _STAT)
        values = dict(line.split() for line in stat.splitlines())
        return Periods(int(values["nr_periods"]), int(values["nr_throttled"]))

    def _command(self, *arguments: str) -> str:
        command = [*self._engine, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=5, seconds=5)
    parser.add_argument("--image", default="mobilenet-serve:cpu")
    arguments = parser.parse_args()
    taken: dict[int, list[Measurement]] = defaultdict(list)
    with ExitStack() as stack:
        generator = stack.enter_context(LoadGenerator(load_photos(arguments.photos)))
        containers = {cpus: stack.enter_context(Container(arguments.image, cpus)) for cpus in CPUS}
        for _ in range(arguments.rounds):
            for cpus, container in containers.items():
                taken[cpus].append(container.measure(generator, arguments.seconds))
        threads = {cpus: container.threads for cpus, container in containers.items()}
    text = table(taken, threads)
    print(text)
    write_section("performance.md", "container", text)


def table(taken: dict[int, list[Measurement]], threads: dict[int, int]) -> str:
    """Medians, and the ratio to each quota's share of the largest, in Markdown."""
    largest = max(taken)
    lines = [
        f"| quota | images/s | of its share of {largest} cores | periods throttled | threads |",
        "|---|--:|--:|--:|--:|",
    ]
    for cpus, measurements in taken.items():
        speed = statistics.median(one.images_per_s for one in measurements)
        throttled = statistics.median(one.throttled for one in measurements)
        ratio = statistics.median(
            one.images_per_s / (reference.images_per_s * cpus / largest)
            for one, reference in zip(measurements, taken[largest], strict=True)
        )
        lines.append(
            f"| `--cpus {cpus}` | {speed:.1f} | {ratio:.2f} | {throttled:.1%} | {threads[cpus]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
