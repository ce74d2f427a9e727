"""What each bomb costs the decoder: `python -m tests.corpus.measure` prints it as JSON.

Each is decoded in a fork, whose peak of memory begins at what is there when it begins.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from functools import partial

from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.corpus.row import CAT
from tests.corpus.table import BOMBS
from tests.forked import run_forked


def decode(data: bytes) -> None:
    """As a decode thread does."""
    preprocessing = Preprocessing()
    needed = partial(needed_size, preprocessing=preprocessing)
    with (
        suppress(ImageError),
        Decoder(DecodeLimits()).open(read_header(data), needed) as picture,
    ):
        preprocess(picture, preprocessing)


def measure(data: bytes) -> tuple[float, int]:
    """Processor time in milliseconds, and growth in KiB."""

    def work() -> tuple[float, int]:
        before = resource.getrusage(resource.RUSAGE_SELF)
        decode(data)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu_s * 1000, after.ru_maxrss - before.ru_maxrss

    return run_forked(work)


if __name__ == "__main__":
    decode(CAT.read_bytes())  # what the first picture loads is not a bomb's
    json.dump({str(row): measure(row.make()) for row in BOMBS}, sys.stdout)
