"""Splits images into those to calibrate with and those to compare on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import ImageError, QuantizationError
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from model.images.preprocessor_config import Preprocessing

LEAST_IMAGES = 40
"""Ten of them are compared; fewer tell nothing."""
MOST_IMAGES = 2000
"""More take memory, 150 kB each, and change little."""
_HELD_OUT_EACH = 4


@dataclass(frozen=True, slots=True)
class SplitImages:
    """Preprocessed images, (n, height, width, 3).

    Attributes:
        calibration: three of four.
        held_out: the fourth.
        rejected: the number of files that are no images.
    """

    calibration: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    rejected: int


def read_images(paths: Iterable[Path], preprocessing: Preprocessing) -> SplitImages:
    """Read images and split them by their content: names and order change nothing.

    An image that is there twice counts once. Of more than `MOST_IMAGES`, the content chooses.

    Raises:
        QuantizationError: a file cannot be read, or there are fewer images than `LEAST_IMAGES`.
    """
    files: dict[str, Path] = {}
    for path in paths:
        try:
            files[hashlib.sha256(path.read_bytes()).hexdigest()] = path
        except OSError as error:
            raise QuantizationError(f"{path}: {error.strerror}") from error
    decoder = Decoder(DecodeLimits())
    images: list[NDArray[np.uint8]] = []
    rejected = 0
    for digest in sorted(files):
        if len(images) == MOST_IMAGES:
            break
        try:
            images.append(preprocess(decoder.decode(files[digest].read_bytes()), preprocessing))
        except ImageError:
            rejected += 1
    if len(images) < LEAST_IMAGES:
        raise QuantizationError(
            f"{len(images)} different images are too few: {LEAST_IMAGES} are the least, "
            "and some hundreds are better"
        )
    held_out = np.arange(len(images)) % _HELD_OUT_EACH == 0
    pixels = np.stack(images)
    return SplitImages(pixels[~held_out], pixels[held_out], rejected)
