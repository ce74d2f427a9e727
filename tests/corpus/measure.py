"""What each bomb costs the decoder: `python -m tests.corpus.measure` prints it as JSON.

Each is decoded in a fork, whose peak of memory begins at what is there when it begins.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from functools import partial
from unittest import mock

from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.corpus.row import CAT, Row, phone_photo
from tests.corpus.table import BOMBS
from tests.forked import run_forked


def decode(data: bytes) -> bool:
    """As a decode thread does; whether any pixel was."""
    preprocessing, decoder = Preprocessing(), Decoder(DecodeLimits())
    needed = partial(needed_size, preprocessing=preprocessing)
    budget = decoder._budget
    with mock.patch.object(budget, "reserve", wraps=budget.reserve) as reserve:
        with suppress(ImageError), decoder.open(read_header(data), needed) as image:
            preprocess(image, preprocessing)
        return reserve.called


def measure(data: bytes) -> tuple[float, int, bool]:
    """Processor time in seconds, growth in KiB, and whether any pixel was decoded."""

    def work() -> tuple[float, int, bool]:
        before = resource.getrusage(resource.RUSAGE_SELF)
        decoded = decode(data)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu_s, after.ru_maxrss - before.ru_maxrss, decoded

    return run_forked(work)


def compare(row: Row, unit_s: float) -> tuple[float, int, bool]:
    """The same, but its time as a multiple of the unit: the least of up to five times."""
    data = row.make()
    tried = [measure(data)]
    while min(tried)[0] > unit_s and len(tried) < 5:
        tried.append(measure(data))
    cpu_s, growth_kib, decoded = min(tried)
    return cpu_s / unit_s, growth_kib, decoded


if __name__ == "__main__":
    decode(CAT.read_bytes())  # what the first image loads is not a bomb's
    unit_s = min(measure(phone_photo())[0] for _ in range(5))
    json.dump({str(row): compare(row, unit_s) for row in BOMBS}, sys.stdout)
