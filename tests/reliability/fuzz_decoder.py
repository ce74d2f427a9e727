"""Damaged images through decoding: `python -m tests.reliability.fuzz_decoder FIRST COUNT`.

Writes as JSON how many were read, how many refused, and the longest time as a multiple of what is
predicted on this core; an image with another end than these two ends the process with its number.
"""

from __future__ import annotations

import faulthandler
import json
import math
import sys
import time
from contextlib import suppress
from functools import partial

from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.model.images.image_files import encode, noise
from tests.reliability.mutation import mutate_image

_HANGS_S = 20
_LEAST_S = 0.001
"""Predicted of the cheapest image."""
PREPROCESSING = Preprocessing()
NEEDED = partial(needed_size, preprocessing=PREPROCESSING)


def decode(decoder: Decoder, data: bytes) -> bool:
    """As a decode thread does; whether it is an image."""
    with suppress(ImageError), decoder.open(read_header(data), NEEDED) as image:
        assert preprocess(image, PREPROCESSING).shape == (224, 224, 3)
        return True
    return False


def predict_seconds(data: bytes) -> float:
    """On the core that predictions are made for."""
    with suppress(ImageError):
        return read_header(data).predict_seconds(NEEDED)
    return _LEAST_S


def measure_core() -> float:
    """How many times as long as predicted a sound image takes on this core; the best of three."""
    sample, durations = encode(noise(640, 480), "JPEG", quality=90), []
    for _ in range(3):
        started = time.process_time()
        decode(Decoder(DecodeLimits()), sample)
        durations.append(time.process_time() - started)
    return min(durations) / predict_seconds(sample)


def fuzz(first: int, count: int) -> dict[str, float]:
    """Decode so many, from that number on."""
    decoder, core = Decoder(DecodeLimits()), measure_core()
    read, longest = 0, 0.0
    for number in range(first, first + count):
        faulthandler.dump_traceback_later(_HANGS_S, exit=True)
        data = mutate_image(number)
        unit_s, took_s = core * predict_seconds(data), math.inf
        for _ in range(5):
            started = time.process_time()
            try:
                is_image = decode(decoder, data)
            except BaseException:
                sys.stderr.write(f"image {number}\n")
                raise
            took_s = min(took_s, time.process_time() - started)
            if took_s <= unit_s:
                break
        read += is_image
        longest = max(longest, took_s / unit_s)
    faulthandler.cancel_dump_traceback_later()
    return {"read": read, "refused": count - read, "longest": longest}


if __name__ == "__main__":
    json.dump(fuzz(*map(int, sys.argv[1:])), sys.stdout)
