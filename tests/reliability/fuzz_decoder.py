"""Damaged pictures through decoding: `python -m tests.reliability.fuzz_decoder FIRST COUNT`.

Writes as JSON how many were read, how many refused, and the longest time; a picture with another
end than these two ends the process with its number.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from functools import partial

from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.reliability.mutation import mutate_picture

_HANGS_S = 20


def fuzz(first: int, count: int) -> dict[str, float]:
    """Decode so many, from that number on."""
    decoder = Decoder(DecodeLimits())
    preprocessing = Preprocessing()
    needed = partial(needed_size, preprocessing=preprocessing)
    read = refused = 0
    longest_s = 0.0
    for number in range(first, first + count):
        faulthandler.dump_traceback_later(_HANGS_S, exit=True)
        data = mutate_picture(number)
        started = time.process_time()
        try:
            with decoder.open(read_header(data), needed) as picture:
                pixels = preprocess(picture, preprocessing)
            assert pixels.shape == (224, 224, 3)
            read += 1
        except ImageError:
            refused += 1
        except BaseException:
            sys.stderr.write(f"picture {number}\n")
            raise
        longest_s = max(longest_s, time.process_time() - started)
    faulthandler.cancel_dump_traceback_later()
    return {"read": read, "refused": refused, "longest_s": longest_s}


if __name__ == "__main__":
    json.dump(fuzz(*map(int, sys.argv[1:])), sys.stdout)
