"""What decoding takes: `python -m tests.model.images.decode_peaks SIDE [WORD]` prints it as JSON.

For a square image of every format and mode: the peak of memory and what the budget counted, in
bytes. With a word, only those whose name has it: `exif` are those that are turned. Each is decoded
in a fork, whose peak begins at what is there when it begins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from app.inference.memory import tune_malloc
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.forked import run_forked
from tests.model.images.image_files import encode

_ORIENTATION, _SIDEWAYS = 0x0112, 6
_MODES = {
    "PNG": ("1", "L", "LA", "P", "I;16", "RGB", "RGBA"),
    "GIF": ("P",),
    "BMP": ("1", "L", "P", "RGB"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
}
_TRANSPARENT = {"P": bytes(range(256)), "L": 3, "RGB": (1, 2, 3)}


def images(side: int, word: str) -> Iterator[tuple[str, bytes]]:
    """By name, the files: upright and turned, with a transparent colour, in several scans."""
    ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    clear = Image.fromarray(np.dstack((ramp, ramp.T, ramp[::-1], ramp)))
    exif = Image.Exif()
    exif[_ORIENTATION] = _SIDEWAYS
    for image_format, modes in _MODES.items():
        for mode in modes:
            image = deep if mode == "I;16" else clear.convert("RGB").convert(mode)
            image = clear if mode == "RGBA" else image
            ways = product(_options(image_format, mode), ({}, {"exif": exif.tobytes()}))
            for options, turned in ways:
                if turned and image_format in {"GIF", "BMP"}:
                    continue
                given = {**options, **turned}
                name = f"{image_format} {mode} {' '.join(given)}".strip()
                if word in name:
                    yield name, encode(image, image_format, **given)


def _options(image_format: str, mode: str) -> list[dict[str, Any]]:
    match image_format:
        case "JPEG":
            given = {"subsampling": 0} if mode == "RGB" else {}
            return [given, {**given, "progressive": True}]
        case "WEBP":
            return [{"method": 0}, {"method": 0, "quality": 0, "lossless": True}]
        case "PNG" if mode in _TRANSPARENT:
            fast = {"compress_level": 1}
            return [fast, {**fast, "transparency": _TRANSPARENT[mode]}]
        case "GIF":
            return [{}, {"transparency": 3}]
    return [{}]


def decode(data: bytes, *, reduced: bool) -> int:
    """As a decode thread does; what was counted."""
    decoder, preprocessing = Decoder(DecodeLimits()), Preprocessing()
    needed = partial(needed_size, preprocessing=preprocessing) if reduced else lambda _: None
    budget = decoder._budget
    with mock.patch.object(budget, "reserve", wraps=budget.reserve) as reserve:
        with decoder.open(read_header(data), needed) as image:
            preprocess(image, preprocessing)
        counted: int = reserve.call_args.args[0]
    return counted


def measure(data: bytes, *, reduced: bool) -> tuple[int, int]:
    """Peak and counted, in bytes."""

    def work() -> tuple[int, int]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
        before = _peak_bytes()
        counted = decode(data, reduced=reduced)
        return _peak_bytes() - before, counted

    return run_forked(work)


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(side: int, word: str = "") -> None:
    """Measure all."""
    for _, data in images(16, word):
        decode(data, reduced=True)  # what the first of a kind loads is not decoding's
    measured = {}
    for name, data in images(side, word):
        measured[name] = measure(data, reduced=False)
        if name.startswith("JPEG"):
            measured[f"{name} reduced"] = measure(data, reduced=True)
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    tune_malloc()
    main(int(sys.argv[1]), *sys.argv[2:])
