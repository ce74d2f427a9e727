"""Predicts how long an image takes to decode and resize, from its header.

The rates were measured on images of one colour, of a photo and of noise in every format. They are
upper bounds: a hostile image costs what its format can cost at most.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.images.decoded_image import NeededSize

_LEAST_NS = 1_000_000
_PIXEL_NS = 3.0
"""Of a decoded pixel that is laid out and resized."""
_SAMPLE_SHAPE = (480, 640, 3)
_SAMPLE_RESIZED = (341, 256)


def predict_seconds(data: bytes, limits: DecodeLimits, needed_size: NeededSize) -> float:
    """Predict how long one core takes, in seconds on the cores that the rates were measured on.

    Args:
        data: the file.
        limits: an image beyond them is refused, which costs next to nothing.
        needed_size: see `Decoder.open`.
    """
    try:
        encoded = read_header(data)
        limits.check(encoded.size)
    except ImageError:
        return _LEAST_NS / 1e9
    pixels, rate = encoded.size[0] * encoded.size[1], encoded.rate
    scale = encoded.choose_scale(needed_size)  # without EXIF, which seldom changes it
    decoding = min(rate.most * pixels, rate.pixel * pixels + rate.byte * len(data))
    return (_LEAST_NS + _PIXEL_NS * pixels / scale**2 + decoding) / 1e9


def measure_core(clock: Callable[[], float] = time.perf_counter) -> float:
    """Decode and resize a JPEG of noise; the time it takes here over the predicted one."""
    file, decoder = BytesIO(), Decoder(DecodeLimits())
    values = np.random.default_rng(0).integers(0, 256, _SAMPLE_SHAPE, np.uint8)
    Image.fromarray(values).save(file, "JPEG", quality=90)
    sample, durations = file.getvalue(), []
    for _ in range(3):
        started = clock()
        decoder.decode(sample).resize(_SAMPLE_RESIZED, Image.Resampling.BILINEAR)
        durations.append(clock() - started)
    return min(durations) / predict_seconds(sample, decoder.limits, lambda _: None)
