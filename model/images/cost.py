"""How long a picture will take to decode and resize, told from its header.

The table was measured on pictures of one colour, of a photo and of noise in every format. What a
header does not tell is taken at the dear side: a hostile picture is what its kind can cost at most.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.errors import ImageError, UnsupportedImageFormatError
from model.images.decoder import DecodeLimits, Decoder, sniff
from model.images.formats import bmp, gif, jpeg, png, webp

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.images.decoder import NeededSize
    from model.images.picture import Size

_LEAST_NS = 1_000_000
_PIXEL_NS = 3.0
"""To lay out and resize a decoded pixel."""
_ALPHA_NS = 3.0
"""To lay it on white."""
_SAMPLE_SHAPE = (480, 640, 3)
_SAMPLE_RESIZED = (341, 256)


@dataclass(frozen=True, slots=True)
class _Rate:
    """What decoding costs: nanoseconds a pixel and a byte of the file, and a pixel at most."""

    pixel: float
    byte: float
    most: float


_JPEG = _Rate(0.3, 6, 20)
_JPEG_SCAN_NS = 0.5
"""Each of several scans visits every pixel."""
_JPEG_SEVERAL_BYTE_NS = 23
_PNG_RAW_NS, _PNG_RAW_MOST_NS = 1, 5
"""An inflated byte."""
_PNG_BYTE_NS = 40
_WEBP = {b"VP8 ": _Rate(5, 36, 32), b"VP8L": _Rate(3, 13, 17), b"VP8X": _Rate(8, 36, 35)}
_GIF = _Rate(1, 10, 4)
_BMP, _BMP_RUNS = _Rate(0, 0, 0), _Rate(0, 150, 150)


def predict_seconds(data: bytes, limits: DecodeLimits, needed_size: NeededSize) -> float:
    """Predict how long one core will take for a picture, in seconds on the cores of the table.

    Args:
        data: the file.
        limits: what exceeds them is refused, which costs next to nothing.
        needed_size: see `Decoder.open`.
    """
    try:
        size, decoded_pixels, rate = _read(data, needed_size)
    except ImageError:
        return _LEAST_NS / 1e9
    pixels = size[0] * size[1]
    if pixels > limits.max_pixels or max(size) > limits.max_side:
        return _LEAST_NS / 1e9
    decoding = min(rate.most * pixels, rate.pixel * pixels + rate.byte * len(data))
    return (_LEAST_NS + _PIXEL_NS * decoded_pixels + decoding) / 1e9


def create_sample() -> bytes:
    """A JPEG of noise, a third of a megapixel: what measures and warms up a decoder."""
    values = np.random.default_rng(0).integers(0, 256, _SAMPLE_SHAPE, np.uint8)
    file = BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure_core(clock: Callable[[], float] = time.perf_counter) -> float:
    """Decode and resize the sample: how many times as long as predicted it takes here."""
    sample, decoder = create_sample(), Decoder(DecodeLimits())
    durations = []
    for _ in range(3):
        started = clock()
        decoder.decode(sample).resize(_SAMPLE_RESIZED, Image.Resampling.BILINEAR)
        durations.append(clock() - started)
    return min(durations) / predict_seconds(sample, decoder.limits, lambda _: None)


def _read(data: bytes, needed_size: NeededSize) -> tuple[Size, float, _Rate]:
    """A picture's size, how many pixels will be laid out and resized, and what decoding costs."""
    match sniff(data):
        case "JPEG":
            return _read_jpeg(data, needed_size)
        case "PNG":
            size, rate = _read_png(data)
        case "GIF":
            size, rate = gif.read_header(data).size, _GIF
        case "WEBP":
            first = webp.read_header(data)
            size, rate = first.size, _WEBP[first.kind]
        case "BMP":
            told = bmp.read_header(data)
            size, rate = told.size, _BMP_RUNS if told.in_runs else _BMP
        case _:
            raise UnsupportedImageFormatError("no allowed format")
    return size, size[0] * size[1], rate


def _read_jpeg(data: bytes, needed_size: NeededSize) -> tuple[Size, float, _Rate]:
    header = jpeg.read_header(data)
    needed = needed_size(header.size)
    scale = 1 if needed is None else jpeg.choose_scale(header.size, needed)
    rate = _JPEG
    if header.in_several:
        rate = _Rate(_JPEG.pixel + _JPEG_SCAN_NS * header.scans, _JPEG_SEVERAL_BYTE_NS, math.inf)
    return header.size, header.size[0] * header.size[1] / scale**2, rate


def _read_png(data: bytes) -> tuple[Size, _Rate]:
    header = png.read_header(data)
    raw_bytes, alpha = header.bits / 8, _ALPHA_NS if header.has_alpha else 0
    return header.size, _Rate(
        raw_bytes * _PNG_RAW_NS + alpha, _PNG_BYTE_NS, raw_bytes * _PNG_RAW_MOST_NS + alpha
    )
