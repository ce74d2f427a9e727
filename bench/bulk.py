"""The command line's classify against the limit of this machine; run it with `make bench-bulk`.

Measures in turns, so that a slow moment of the machine slows both: the same photos called one after
the other in as many threads as cores, and read from files, answered and written as JSON lines by
what `classify` runs. Both decode every photo at its own size. Starting is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from app.bulk.errors import FileError
from app.bulk.files import Found
from app.bulk.formats import create_writer
from app.bulk.local import LocalModel
from app.bulk.pipeline import Pipeline
from app.schemas import ClassifyOptions
from app.settings import Settings
from bench.arguments import create_parser
from bench.documents import write_section
from bench.in_process import InProcess
from bench.photos import load_photos


def measure_images_per_s(model: LocalModel, files: list[Path], count: int) -> float:
    """Images a second of so many, each from a file."""

    def find() -> Iterator[Found]:
        return (Found(str(path)) for path in islice(cycle(files), count))

    written: list[str] = []
    writer = create_writer("jsonl", model.name, written.append, None)
    started = time.perf_counter()
    with Pipeline(find(), model.classifier(ClassifyOptions())) as results:
        for path, result in results:
            if isinstance(result, FileError):
                raise result
            writer.write(path, result)
    return count / (time.perf_counter() - started)


def measure(
    photos: list[bytes], rounds: int, seconds: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Images a second, and CPU milliseconds an image: the limit and the command, each round."""
    in_process, model = InProcess(), LocalModel(Settings(jpeg_scaled_decode=False))
    rates, cpu_ms = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:03}.jpg" for number in range(len(photos))]
        for path, photo in zip(files, photos, strict=True):
            path.write_bytes(photo)
        # The first time is slower, of both.
        measure_images_per_s(model, files, len(files))
        in_process.images_per_s(photos, seconds)
        for _ in range(rounds):
            before, started = time.process_time(), time.perf_counter()
            limit = in_process.images_per_s(photos, seconds)
            limit_ms = 1000 * (time.process_time() - before)
            limit_ms /= limit * (time.perf_counter() - started)
            count = max(len(files), int(limit * seconds))
            before = time.process_time()
            rates.append((limit, measure_images_per_s(model, files, count)))
            cpu_ms.append((limit_ms, 1000 * (time.process_time() - before) / count))
    return rates, cpu_ms


def describe(rates: list[tuple[float, float]], cpu_ms: list[tuple[float, float]]) -> str:
    """The medians, in a sentence each."""
    limit, rate = (statistics.median(column) for column in zip(*rates, strict=True))
    limit_ms, own_ms = (statistics.median(column) for column in zip(*cpu_ms, strict=True))
    ratios = [rate / limit for limit, rate in rates]
    return (
        f"`classify` answers {rate:.1f} images/s from files, the limit is {limit:.1f}: "
        f"{statistics.median(ratios):.2f} of it (median of {len(ratios)} rounds, "
        f"{min(ratios):.2f} to {max(ratios):.2f}).\nAn image takes {own_ms:.2f} ms of CPU, "
        f"in the limit {limit_ms:.2f} ms."
    )


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=20, seconds=1.5)
    arguments = parser.parse_args()
    rates, cpu_ms = measure(load_photos(arguments.photos), arguments.rounds, arguments.seconds)
    text = describe(rates, cpu_ms)
    print(text)
    write_section("performance.md", "bulk", text)


if __name__ == "__main__":
    main()
