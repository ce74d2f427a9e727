"""How cost grows: with the load on one process, with the photos' size, with the network's.

Writes three tables of docs/performance.md between their marks, and draws scale_image_size.svg and
scale_variants.svg there. Run it with `make bench-scale`, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from bench.arguments import create_parser
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
    parser = create_parser(__doc__, rounds=2, seconds=1)
    parser.add_argument("--only", choices=_PARTS, nargs="+", default=list(_PARTS), help="parts")
    arguments = parser.parse_args()
    photos = load_photos(arguments.photos)
    for name in arguments.only:
        part = _PARTS[name]()
        part.measure(photos, arguments.rounds, arguments.seconds)
        part.write()


if __name__ == "__main__":
    main()
