"""What the cache saves on images that come again, and what looking for them costs on others.

Measures in turns: the service with and without a cache, on photos that are all kept; then on photos
of which none comes twice while it is kept. Both decode every photo at its own size.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections import defaultdict

from bench.arguments import create_parser
from bench.documents import write_section
from bench.load import LoadGenerator
from bench.photos import load_photos
from bench.server import ServerProcess

_CONNECTIONS = 16
_REPEATED = 32
"""Photos that come again and again; more than connections, so that none is shared in flight."""
_KEEPS_ALL, _KEEPS_ONE = 64, 0.007
"""MiB: of all the repeated photos, and of one alone, so that each comes when it is long gone."""
_OFF = "off"


class Measurements:
    """One run's figures, one entry a round: images a second, and CPU milliseconds an image."""

    def __init__(self) -> None:
        self.rates: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.cpu_ms: dict[tuple[str, str], list[float]] = defaultdict(list)

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Send both sets of photos to every server, in turns."""
        with (
            ServerProcess(jpeg_scaled_decode=False) as off,
            ServerProcess(jpeg_scaled_decode=False, cache_mib=_KEEPS_ALL) as hits,
            ServerProcess(jpeg_scaled_decode=False, cache_mib=_KEEPS_ONE) as misses,
            LoadGenerator(photos[:_REPEATED]) as repeated,
            LoadGenerator(photos) as distinct,
        ):
            for _ in range(rounds):
                for server, name, generator, kind in (
                    (off, _OFF, repeated, "repeated"),
                    (hits, "on", repeated, "repeated"),
                    (off, _OFF, distinct, "distinct"),
                    (misses, "on", distinct, "distinct"),
                ):
                    before = server.cpu_s
                    load = generator.run(server.url, "raw", _CONNECTIONS, seconds)
                    self.rates[kind, name].append(load.images_per_s)
                    images = load.images_per_s * load.seconds
                    self.cpu_ms[kind, name].append(1000 * (server.cpu_s - before) / images)

    def ratio(self, kind: str) -> tuple[float, float, float]:
        """Images a second with the cache over those without: median, least and greatest round."""
        ratios = [
            on / off for on, off in zip(self.rates[kind, "on"], self.rates[kind, _OFF], strict=True)
        ]
        return statistics.median(ratios), min(ratios), max(ratios)

    def table(self, digest_us: float, photo_kb: float) -> str:
        """All of it, in Markdown."""
        lines = [
            "| photos | cache | images/s | CPU ms an image | ratio, least to greatest |",
            "|---|---|--:|--:|--:|",
        ]
        for kind, name in self.rates:
            median, least, most = self.ratio(kind)
            ratio = "" if name == _OFF else f"{median:.3f}, {least:.3f} to {most:.3f}"
            rate = statistics.median(self.rates[kind, name])
            cpu_ms = statistics.median(self.cpu_ms[kind, name])
            lines.append(f"| {kind} | {name} | {rate:.1f} | {cpu_ms:.2f} | {ratio} |")
        digest = f"Digesting a photo of {photo_kb:.0f} KB takes {digest_us:.0f} us."
        return "\n".join([*lines, "", digest])


def measure_digest_us(photos: list[bytes]) -> float:
    """Median microseconds of one photo's digest."""
    durations = []
    for photo in photos:
        started = time.perf_counter()
        hashlib.sha256(photo).digest()
        durations.append(time.perf_counter() - started)
    return 1e6 * statistics.median(durations)


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=5, seconds=5)
    arguments = parser.parse_args()
    photos = load_photos(arguments.photos)
    measurements = Measurements()
    measurements.measure(photos, arguments.rounds, arguments.seconds)
    photo_kb = statistics.median(map(len, photos)) / 1000
    table = measurements.table(measure_digest_us(photos), photo_kb)
    print(table)
    write_section("performance.md", "cache", table)


if __name__ == "__main__":
    main()
