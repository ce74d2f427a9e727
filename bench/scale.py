"""How cost grows: with the load on one process, with the photos' size, with the network's.

Writes three tables of docs/performance.md between their marks, and draws scale_image_size.svg and
scale_variants.svg there. Run it with `make bench-scale`, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from bench.image_sizes import ImageSizes
from bench.photos import load_photos
from bench.process_limit import ProcessLimit
from bench.variants import Variants


class Part(Protocol):
    """What is measured by itself."""

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Take every figure once a round."""

    def write(self) -> None:
        """Print, write and draw the figures."""


_PARTS: Mapping[str, Callable[[], Part]] = {
    "process": ProcessLimit,
    "image-size": ImageSizes,
    "variants": Variants,
}


def main() -> None:
    """Measure, print, write and draw, part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of *.jpg; made where not given")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1, help="for each figure in each round")
    parser.add_argument("--only", choices=_PARTS, nargs="+", default=list(_PARTS), help="parts")
    arguments = parser.parse_args()
    photos = load_photos(arguments.photos)
    for name in arguments.only:
        part = _PARTS[name]()
        part.measure(photos, arguments.rounds, arguments.seconds)
        part.write()


if __name__ == "__main__":
    main()
