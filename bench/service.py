"""Measures the service against the limit of this machine; run it with `make bench`.

Measures in turns, so that a slow moment of the machine slows all: the same photos in one process
without HTTP, and through the service at several numbers of connections, both decoding every photo
at its own size. Writes the ratios to docs/performance.md, and draws throughput.svg, latency.svg and
stages.svg there.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.arguments import create_parser
from bench.documents import markdown_table, save_plot, write_section
from bench.in_process import InProcess
from bench.overhead import measure_overhead
from bench.stages import StageTimes, draw_stages
from rig.load import KINDS, Kind, Load, LoadGenerator
from rig.photos import load_photos
from rig.server import ServerProcess

CONNECTIONS = (1, 4, 16, 64)


class Measurements:
    """The figures of one run, one entry a round."""

    def __init__(self) -> None:
        self.limits: dict[Kind, list[float]] = defaultdict(list)
        self.single_ms: list[float] = []
        self.loads: dict[tuple[Kind, int], list[Load]] = defaultdict(list)
        self.stages: dict[int, dict[str, float]] = {}
        self.overhead: dict[str, float] = {}
        self.ready_s = 0.0
        self.resident_mib = 0.0

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Take every figure once a round."""
        in_process = InProcess()
        with ServerProcess(jpeg_scaled_decode=False) as server, LoadGenerator(photos) as generator:
            self.ready_s = server.ready_s
            for _ in range(rounds):
                self.single_ms.append(in_process.single_ms(photos, seconds))
                for kind in KINDS:
                    self.limits[kind].append(in_process.images_per_s(photos, seconds))
                    for connections in CONNECTIONS:
                        before = StageTimes(server.url)
                        load = generator.run(server.url, kind, connections, seconds)
                        self.loads[kind, connections].append(load)
                        self.stages[connections] = StageTimes(server.url).since(before)
            self.resident_mib = server.resident_mib
            self.overhead = measure_overhead(generator, rounds, seconds)

    def throughput_ratio(self, kind: Kind, connections: int) -> float:
        """Return images a second over the limit, each of one round; the median of the rounds."""
        loads = self.loads[kind, connections]
        return _median_ratio([load.images_per_s for load in loads], self.limits[kind])

    def latency_ratio(self, kind: Kind) -> float:
        """Return p50 of one client at a time over one photo in process with all threads."""
        return _median_ratio([load.p50_ms for load in self.loads[kind, 1]], self.single_ms)

    def table(self) -> str:
        """Return all of it in Markdown."""
        limit = statistics.median([limit for limits in self.limits.values() for limit in limits])
        single = statistics.median(self.single_ms)
        summary = (
            f"In process, without HTTP: {limit:.1f} images/s on all cores; "
            f"{single:.1f} ms for one photo with all threads on it. "
            f"The service was ready after {self.ready_s:.2f} s and holds "
            f"{self.resident_mib:.0f} MiB at the end."
        )
        rows = []
        for (kind, connections), loads in self.loads.items():
            rate, p50, p99, refused = (
                f"{statistics.median(getattr(load, name) for load in loads):.1f}"
                for name in ("images_per_s", "p50_ms", "p99_ms", "refused_per_s")
            )
            ratio = f"{self.throughput_ratio(kind, connections):.2f}"
            rows.append((kind, str(connections), rate, ratio, p50, p99, refused))
        columns = "body", "connections", "images/s", "of the limit", "p50 ms", "p99 ms", "refused/s"
        ratios = ", ".join(f"{self.latency_ratio(kind):.2f} ({kind})" for kind in KINDS)
        overhead = (
            "Besides decoding and the engine a request costs "
            f"{self.overhead['multipart']:.2f} ms of CPU (multipart), "
            f"{self.overhead['raw']:.2f} ms (raw); a refusal {self.overhead['refused']:.2f} ms."
        )
        latency = f"One client's p50 over the time in process: {ratios}."
        return "\n\n".join([summary, markdown_table(columns, rows), latency, overhead])


def draw(measurements: Measurements) -> None:
    """Draw throughput and latency against connections."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for kind in KINDS:
        ratios = [measurements.throughput_ratio(kind, count) for count in CONNECTIONS]
        axes.plot(range(len(CONNECTIONS)), ratios, "o-", label=kind)
    axes.axhline(1, color="grey", linestyle=":", label="in process, no HTTP")
    axes.set_ylabel("images a second over the limit")
    axes.set_ylim(0, 1.1)
    _finish(figure, axes, "throughput.svg")
    figure, axes = plt.subplots(figsize=(7, 4))
    for name in ("p50_ms", "p99_ms"):
        values = [
            statistics.median(getattr(load, name) for load in measurements.loads["raw", count])
            for count in CONNECTIONS
        ]
        axes.plot(range(len(CONNECTIONS)), values, "o-", label=name.removesuffix("_ms"))
    axes.set_ylabel("milliseconds")
    axes.set_yscale("log")
    _finish(figure, axes, "latency.svg")


def main() -> None:
    """Measure, print, write and draw."""
    arguments = create_parser(__doc__, rounds=5, seconds=5).parse_args()
    measurements = Measurements()
    measurements.measure(load_photos(arguments.photos), arguments.rounds, arguments.seconds)
    table = measurements.table()
    print(table)
    write_section("performance.md", "service", table)
    draw(measurements)
    draw_stages(measurements.stages)


def _median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    return statistics.median(
        value / reference for value, reference in zip(values, references, strict=True)
    )


def _finish(figure: Figure, axes: Axes, name: str) -> None:
    axes.set_xticks(range(len(CONNECTIONS)), [str(count) for count in CONNECTIONS])
    axes.set_xlabel("connections, each asking again as soon as it is answered")
    axes.grid(alpha=0.3)
    axes.legend()
    save_plot(figure, name)


if __name__ == "__main__":
    main()
