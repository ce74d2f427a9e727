"""Measures how fast a core decodes, against what `EncodedImage.predict_seconds` predicts."""

from __future__ import annotations

import time
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLE_SHAPE = (480, 640, 3)
_SAMPLE_RESIZED = (341, 256)


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
    return min(durations) / read_header(sample).predict_seconds(lambda _: None)
