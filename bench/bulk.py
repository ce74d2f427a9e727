"""The command line against the limit of this machine; run it with `make bench-bulk`.

Measures in turns, so that a slow moment of the machine slows both: the same photos called one after
the other in as many threads as cores, and read from files, answered and written by what `classify`
and `embed` run. Both decode every photo at its own size. Starting is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from app.cli.bulk.embeddings_file import EmbeddingsFile
from app.cli.bulk.errors import FileError
from app.cli.bulk.files import Found
from app.cli.bulk.local import LocalModel
from app.cli.bulk.workers import Pipeline
from app.cli.bulk.writers import create_writer
from app.inference.options import ClassifyOptions, EmbedOptions
from app.settings import Settings
from bench.arguments import create_parser
from bench.documents import write_section
from bench.in_process import InProcess
from bench.photos import load_photos


def _find(files: list[Path], count: int) -> Iterator[Found]:
    return (Found(str(path)) for path in islice(cycle(files), count))


def _classify(model: LocalModel, files: list[Path], count: int) -> None:
    """What `classify --format jsonl` does."""
    written: list[str] = []
    writer = create_writer("jsonl", model.name, written.append, None)
    with Pipeline(_find(files, count), model.classifier(ClassifyOptions())) as results:
        for path, result in results:
            if isinstance(result, FileError):
                raise result
            writer.write(path, result)


def _embed(model: LocalModel, files: list[Path], count: int) -> None:
    """What `embed --output` does."""
    output = files[0].with_name("embeddings.npz")
    with (
        EmbeddingsFile(output) as file,
        Pipeline(_find(files, count), model.embedder(EmbedOptions())) as results,
    ):
        for path, result in results:
            if isinstance(result, FileError):
                raise result
            file.add(path, result)


_COMMANDS: Mapping[str, Callable[[LocalModel, list[Path], int], None]] = {
    "classify": _classify,
    "embed": _embed,
}


@dataclass(frozen=True, slots=True)
class Round:
    """Images a second, and CPU milliseconds an image: of the limit and of a command."""

    limit: float
    limit_ms: float
    rate: float
    own_ms: float


def measure(photos: list[bytes], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Every command in turns with the limit."""
    in_process, model = InProcess(), LocalModel(Settings(jpeg_scaled_decode=False))
    found: dict[str, list[Round]] = {name: [] for name in _COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:03}.jpg" for number in range(len(photos))]
        for path, photo in zip(files, photos, strict=True):
            path.write_bytes(photo)
        # The first time is slower, of both.
        _classify(model, files, len(files))
        in_process.images_per_s(photos, seconds)
        for name in list(_COMMANDS) * rounds:
            before, started = time.process_time(), time.perf_counter()
            limit = in_process.images_per_s(photos, seconds)
            limit_ms = 1000 * (time.process_time() - before)
            limit_ms /= limit * (time.perf_counter() - started)
            count = max(len(files), int(limit * seconds))
            before, started = time.process_time(), time.perf_counter()
            _COMMANDS[name](model, files, count)
            rate = count / (time.perf_counter() - started)
            own_ms = 1000 * (time.process_time() - before) / count
            found[name].append(Round(limit, limit_ms, rate, own_ms))
    return found


def describe(name: str, rounds: list[Round]) -> str:
    """The medians, in a sentence each."""
    ratios = [one.rate / one.limit for one in rounds]
    rate, limit, own_ms, limit_ms = (
        statistics.median(getattr(one, what) for one in rounds)
        for what in ("rate", "limit", "own_ms", "limit_ms")
    )
    return (
        f"`{name}` answers {rate:.1f} images/s from files, the limit is {limit:.1f}: "
        f"{statistics.median(ratios):.2f} of it (median of {len(ratios)} rounds, "
        f"{min(ratios):.2f} to {max(ratios):.2f}). An image takes {own_ms:.2f} ms of CPU, "
        f"in the limit {limit_ms:.2f} ms."
    )


def main() -> None:
    """Measure, print and write."""
    parser = create_parser(__doc__, rounds=20, seconds=1.5)
    arguments = parser.parse_args()
    found = measure(load_photos(arguments.photos), arguments.rounds, arguments.seconds)
    text = "\n\n".join(describe(name, rounds) for name, rounds in found.items())
    print(text)
    write_section("performance.md", "bulk", text)


if __name__ == "__main__":
    main()
