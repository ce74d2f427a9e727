"""Measures what decoding big JPEGs at a reduced size saves, and how it changes the answers.

Every photo goes through decode and preprocess three times in turn: scaled down to 472x397 and
written at the same quality, as a client could have sent it; at a reduced size; and at its full
size. Times are of the thread's processor, which neighbours disturb least. Writes the table of
docs/performance.md. Run it with `make bench WHAT=decode`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bench.documents import markdown_table, write_section
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine
from model.engines.cores import count_cores
from model.images.decoded_image import NeededSize
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.network.scores import softmax
from rig.photos import encode, load_photos, resize_photo

MEGAPIXELS = (1, 1.3, 2, 4, 5, 8, 12, 16, 20, 24)
"""At 1.3, 5 and 20 a photo of 472x397's shape is just large enough for 1/2, 1/4 and 1/8."""

SMALL = (472, 397)
COLUMNS = (
    *("photos", "megapixels", "decoded at", "MB", "same top-1", "largest score difference"),
    *("least cosine", "mean cosine", "ms", "ms in full", "ratio", "ratio in full"),
)
_GRAIN = 4.0
"""Standard deviation of the noise, of 255."""

Make = Callable[[int, float], bytes]
"""Number of the photo, megapixels -> JPEG."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One photo, reduced against full."""

    scale: int
    megabytes: float
    agrees: bool
    score_difference: float
    cosine: float
    reduced_ms: float
    full_ms: float
    small_ms: float


class Comparer:
    """Decodes photos in full and at a reduced size, and runs the network on both."""

    def __init__(self) -> None:
        checkpoint = load_checkpoint(DEFAULT_DIRECTORY)
        self._preprocessing = checkpoint.preprocessing
        self._needed_size = partial(needed_size, preprocessing=self._preprocessing)
        self._engine = load_engine(checkpoint, name="onnx", threads=count_cores())
        self._decoder = Decoder(DecodeLimits())

    def compare(self, photo: bytes) -> Comparison:
        """Compare both ways, and time the photo scaled down beside them."""
        small = resize_photo(photo, SMALL[0] * SMALL[1] / 1e6)
        _, _, small_ms = self._decode(small)
        reduced, scale, reduced_ms = self._decode(photo, self._needed_size)
        full, _, full_ms = self._decode(photo)
        output = self._engine.run(np.stack([reduced, full]))
        scores = softmax(output.logits)
        best = scores.argmax(axis=1)
        one, other = output.pooled
        return Comparison(
            scale=scale,
            megabytes=len(photo) / 1e6,
            agrees=bool(best[0] == best[1]),
            score_difference=float(np.abs(scores[0] - scores[1]).max()),
            cosine=float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))),
            reduced_ms=reduced_ms,
            full_ms=full_ms,
            small_ms=small_ms,
        )

    def _decode(
        self, photo: bytes, needed: NeededSize = lambda _: None
    ) -> tuple[NDArray[np.uint8], int, float]:
        """Pixels, what the sides were divided by, and milliseconds."""
        started = time.thread_time()
        with self._decoder.open(read_header(photo), needed) as decoded:
            pixels = preprocess(decoded, self._preprocessing)
        elapsed_ms = 1000 * (time.thread_time() - started)
        return pixels, round(decoded.size[0] / decoded.image.width), elapsed_ms


class Results(list[Comparison]):
    """All photos of one kind and size."""

    def median(self, name: str) -> float:
        """Return the median of one figure."""
        return float(statistics.median(getattr(one, name) for one in self))

    def ratio(self, name: str) -> float:
        """Return the median of a time over that of the same photo scaled down."""
        return float(statistics.median(getattr(one, name) / one.small_ms for one in self))

    def row(self, kind: str, megapixels: float) -> tuple[str, ...]:
        """Return one line of the table."""
        scale = max(one.scale for one in self)
        cosines = [one.cosine for one in self]
        return (
            kind,
            f"{megapixels:g}",
            f"1/{scale}" if scale > 1 else "full",
            f"{self.median('megabytes'):.1f}",
            f"{sum(one.agrees for one in self)} of {len(self)}",
            f"{max(one.score_difference for one in self):.3f}",
            f"{min(cosines):.5f}",
            f"{statistics.mean(cosines):.5f}",
            f"{self.median('reduced_ms'):.1f}",
            f"{self.median('full_ms'):.1f}",
            f"{self.ratio('reduced_ms'):.1f}",
            f"{self.ratio('full_ms'):.1f}",
        )


def makers(photos: list[bytes], *, given: bool) -> dict[str, Make]:
    """Return ways to make a photo of any size.

    Given photos are only resized. The tests' are small, and what is only enlarged has no high
    frequencies to lose: so grain is added too, and many photos are laid side by side in one.
    """

    def enlarge(number: int, megapixels: float) -> bytes:
        return resize_photo(photos[number], megapixels)

    def add_grain(number: int, megapixels: float) -> bytes:
        values = np.asarray(Image.open(BytesIO(enlarge(number, megapixels))), np.float32)
        rng = np.random.default_rng(number)
        values = values + _GRAIN * rng.standard_normal(values.shape, np.float32)
        return encode(Image.fromarray(values.clip(0, 255).astype(np.uint8)))

    def lay_out(number: int, megapixels: float) -> bytes:
        factor = (megapixels * 1e6 / (SMALL[0] * SMALL[1])) ** 0.5
        canvas = Image.new("RGB", (round(SMALL[0] * factor), round(SMALL[1] * factor)))
        for left in range(0, canvas.width, SMALL[0]):
            for top in range(0, canvas.height, SMALL[1]):
                canvas.paste(Image.open(BytesIO(photos[number])), (left, top))
                number = (number + 1) % len(photos)
        return encode(canvas)

    if given:
        return {"given": enlarge}
    return {"enlarged": enlarge, "with grain": add_grain, "side by side": lay_out}


def measure(photos: list[bytes], count: int, *, given: bool) -> dict[tuple[str, float], Results]:
    """Compare every photo at every size."""
    comparer = Comparer()
    results: dict[tuple[str, float], Results] = defaultdict(Results)
    for kind, make in makers(photos, given=given).items():
        for megapixels in MEGAPIXELS:
            for number in range(min(count, len(photos))):
                results[kind, megapixels].append(comparer.compare(make(number, megapixels)))
    return results


def table(results: dict[tuple[str, float], Results]) -> str:
    """Return all of it in Markdown."""
    every = Results(one for some in results.values() for one in some if one.scale > 1)
    cosines = [one.cosine for one in every]
    difference = max(one.score_difference for one in every)
    at_12 = "; ".join(
        f"{some.ratio('reduced_ms'):.1f} reduced and {some.ratio('full_ms'):.1f} in full "
        f"({kind}, {some.median('megabytes'):.1f} MB)"
        for (kind, megapixels), some in results.items()
        if megapixels == 12  # noqa: PLR2004  # the size of a phone's photo
    )
    summary = (
        f"Of {len(every)} reduced photos {sum(one.agrees for one in every)} keep their top-1 "
        f"class; the least cosine of their embeddings is {min(cosines):.4f}, the mean "
        f"{statistics.mean(cosines):.4f}, and no score changes by more than {difference:.3f}. "
        f"Scaled down to 472x397 a photo takes {every.median('small_ms'):.1f} ms; at 12 "
        f"megapixels it takes times that: {at_12}."
    )
    rows = [some.row(kind, megapixels) for (kind, megapixels), some in results.items()]
    return f"{summary}\n\n{markdown_table(COLUMNS, rows)}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of *.jpg; made where not given")
    parser.add_argument("--count", type=int, default=8, help="how many of them at each size")
    parser.add_argument("--dry-run", action="store_true", help="only print")
    arguments = parser.parse_args()
    photos, given = load_photos(arguments.photos), arguments.photos is not None
    if not given:
        photos = [encode(ImageOps.fit(Image.open(BytesIO(photo)), SMALL)) for photo in photos]
    text = table(measure(photos, arguments.count, given=given))
    print(text)
    if not arguments.dry_run:
        write_section("performance.md", "scaled-decode", text)


if __name__ == "__main__":
    main()
