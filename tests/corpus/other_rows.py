"""WebP, GIF and BMP, sound and not; and what is none of the formats that are read.

This file is longer than others because it is a table, a few lines a row.
"""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.jpeg_rows import jpeg
from tests.corpus.png_rows import entries, palette, png
from tests.corpus.row import (
    FEW_COLOURS,
    Row,
    grey_photo,
    half_transparent,
    invalid,
    noise,
    on_white,
    photo,
    random_bytes,
    too_complex,
    too_large,
    unsupported,
)
from tests.model.images.image_files import (
    PNG_SIGNATURE,
    create_bmp,
    create_exif,
    create_gif,
    encode,
)

Makers = dict[str, Callable[[], bytes]]

NO_TIFF = "TIFF is not read: a TIFF can hold any codec, and the service promises five formats"
_GIF_START = 13 + 768  # screen and palette


def animated(image_format: str) -> bytes:
    first = palette() if image_format == "GIF" else photo()
    others = [Image.new(first.mode, first.size)] * 2
    return encode(first, image_format, save_all=True, append_images=others, quality=92)


@cache
def gif(**options: Any) -> bytes:
    return encode(palette(), "GIF", **options)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = (struct.pack("<I", side - 1)[:3] for side in (width, height))
    return b"VP8X", struct.pack("<I", flags) + b"".join(sides)


def webp_image(image: Image.Image) -> tuple[bytes, bytes]:
    data = encode(image, "WEBP", lossless=True)
    return data[12:16], data[20 : 20 + int.from_bytes(data[16:20], "little")]


def webp_frames(count: int) -> bytes:
    kind, body = webp_image(Image.new("RGB", (1, 1)))
    frame = bytes(12) + struct.pack("<I", 1) + kind + struct.pack("<I", len(body)) + body
    frame += bytes(len(body) % 2)
    return riff(webp_canvas(1, 1, flags=2), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * count)


def gif_frames(count: int) -> bytes:
    data = create_gif((4, 4))
    return data[:-1] + data[19:-1] * (count - 1) + b";"


def lossless_of(side: int) -> bytes:
    """What a lossless WebP says of its size, with next to nothing behind it."""
    bits = (side - 1) | (side - 1) << 14
    return riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + random_bytes(400)))


@cache
def flat_areas() -> Image.Image:
    return photo().resize((300, 200)).quantize(64, dither=Image.Dither.NONE)


def bmp_of_runs() -> bytes:
    """RLE8: each row in runs, from the bottom."""
    image = flat_areas()
    rows = []
    for row in np.asarray(image)[::-1]:
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
            whole, rest = divmod(end - start, 255)
            rows.append(bytes([255, row[start]]) * whole + bytes([rest, row[start]]) * bool(rest))
        rows.append(b"\0\0")
    return bmp(image, b"".join(rows) + b"\0\1")


def bmp(image: Image.Image, runs: bytes) -> bytes:
    colours = np.asarray(image.getpalette()).reshape(-1, 3)[:, ::-1].astype(np.uint8)
    table = b"".join(row.tobytes() + b"\0" for row in colours)
    head = struct.pack("<IiiHHIIiiII", 40, *image.size, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 54 + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + head + table + runs


def bmp_top_down() -> bytes:
    data = bytearray(encode(photo().transpose(Image.Transpose.FLIP_TOP_BOTTOM), "BMP"))
    struct.pack_into("<i", data, 22, -photo().height)
    return bytes(data)


def tiff(image: Image.Image, **options: Any) -> bytes:
    return encode(image, "TIFF", **options)


VALID = [
    *(
        Row("V22", f"{name}, animated", partial(animated, name), shows=photo, cosine=FEW_COLOURS)
        for name in ("PNG", "GIF", "WEBP")
    ),
    Row("V23", "GIF", gif, shows=photo, cosine=FEW_COLOURS),
    Row("V23", "GIF, not interlaced", partial(gif, interlace=0), shows=photo, cosine=FEW_COLOURS),
    Row("V23", "GIF, transparent", partial(gif, transparency=3)),
    Row("V23", "GIF, frame smaller than its screen", lambda: create_gif((30, 20), (9, 9, 1, 1))),
    Row("V24", "WebP", lambda: encode(photo(), "WEBP", quality=92), shows=photo),
    Row(
        "V24",
        "WebP, lossless",
        lambda: encode(photo(), "WEBP", lossless=True, method=0),
        shows=photo,
    ),
    Row(
        "V24",
        "WebP, alpha",
        lambda: encode(half_transparent(), "WEBP", quality=92),
        shows=lambda: on_white(half_transparent()),
    ),
    Row(
        "V24",
        "WebP, turned",
        lambda: encode(
            photo().transpose(Image.Transpose.ROTATE_90),
            "WEBP",
            quality=92,
            exif=create_exif(b"\6\0"),
        ),
        shows=photo,
    ),
    Row("V25", "BMP of 24 bits", lambda: encode(photo(), "BMP"), shows=photo),
    Row("V25", "BMP, palette", lambda: encode(palette(), "BMP"), shows=photo, cosine=FEW_COLOURS),
    Row(
        "V25",
        "BMP of one bit",
        lambda: encode(grey_photo().convert("1"), "BMP"),
        shows=lambda: grey_photo().convert("1"),
        cosine=FEW_COLOURS,
    ),
    Row("V25", "BMP, RLE8", bmp_of_runs, shows=flat_areas, cosine=FEW_COLOURS),
    Row("V25", "BMP, from the top", bmp_top_down, shows=photo),
    Row("V25", "BMP of 32 bits", lambda: encode(photo().convert("RGBA"), "BMP"), shows=photo),
    unsupported("V26", "TIFF", lambda: tiff(photo(), compression="tiff_lzw"), NO_TIFF),
    unsupported("V26", "TIFF, big", lambda: tiff(photo(), big_tiff=True), NO_TIFF),
]

OTHERS: dict[str, Makers] = {
    "B02": {"random": lambda: b"?" + random_bytes(2499)},
    "B03": {
        "HTML": lambda: b"<!doctype html><img src=x>",
        "JSON": lambda: json.dumps({"image": "x"}).encode(),
    },
    "B04": {
        "PDF": lambda: b"%PDF-1.7\n" + bytes(99),
        "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "gzip of a PNG": lambda: gzip.compress(png(), mtime=0),
    },
    "B05": {
        "HEIC": lambda: b"\0\0\0\x18ftypheic" + bytes(99),
        **{
            name: partial(encode, Image.new("RGB", (32, 32), "teal"), name)
            for name in ("EPS", "JPEG2000", "TGA", "PPM", "ICO", "AVIF")
        },
    },
    "B36": {
        "TIFF named .jpg": lambda: tiff(photo()),
        "PSD named .jpg": lambda: b"8BPS\0\1" + bytes(6) + b"\xff\xd8\xff" + bytes(99),
        "FPX named .jpg": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + jpeg(),
    },
    "B39": {"pickle": lambda: pickle.dumps({"a": 1})},
    "B25": {"TIFF, directory loop": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0"},
}

SIGNATURES = {"PNG": PNG_SIGNATURE, "GIF": b"GIF89a", "BMP": b"BM", "RIFF": b"RIFF"}

BAD = [
    Row("B01", "no bytes", lambda: b"", 422, "empty_file"),
    *(
        unsupported(id_, what, make, NO_TIFF if "TIFF" in what and id_ != "B36" else "")
        for id_, family in OTHERS.items()
        for what, make in family.items()
    ),
    *(
        invalid("B07", f"{name}, its signature only", partial(bytes, signature))
        for name, signature in SIGNATURES.items()
    ),
    unsupported("B07", "TIFF, its signature only", partial(bytes, b"II*\0"), NO_TIFF),
    invalid("B14", "GIF 0x0", lambda: create_gif((0, 0), (0, 0, 0, 0))),
    too_large("B20", "GIF, screen 65535x65535", lambda: create_gif((65_535, 65_535))),
    too_large("B22", "BMP says 30000x30000", lambda: create_bmp(30_000, 30_000)),
    too_large("B24", "WebP 16383x16383", partial(lossless_of, 16_383)),
    Row("B31", "GIF of 50,000 frames", partial(gif_frames, 50_000), bomb=True),
    Row("B31", "WebP of 50,000 frames", partial(webp_frames, 50_000), bomb=True),
    invalid(
        "B35",
        "WebP, canvas of another size",
        lambda: riff(webp_canvas(99, 99), webp_image(noise(64, 64))),
    ),
    too_large(
        "B35",
        "WebP, canvas of 2^24",
        lambda: riff(webp_canvas(1 << 24, 1 << 24), webp_image(noise(64, 64))),
    ),
    invalid("B35", "WebP, broken Huffman tables", partial(lossless_of, 64)),
    too_complex(
        "B46",
        "GIF, 4 million blocks",
        lambda: gif()[:_GIF_START] + b"!\xfe" + b"\1a" * 4_000_000 + b"\0" + gif()[_GIF_START:],
    ),
    too_complex(
        "B46",
        "GIF, 3 million extensions",
        lambda: gif()[:_GIF_START] + b"!\xfe\0" * 3_000_000 + gif()[_GIF_START:],
    ),
    too_complex(
        "B47", "BMP, 4 million runs", lambda: bmp(Image.new("P", (3000, 3000)), b"\1\5" * 4_000_000)
    ),
    Row(
        "B48",
        "WebP, EXIF of 65,535 entries",
        lambda: encode(photo(), "WEBP", quality=92, exif=entries(65_535)),
        shows=photo,
        bomb=True,
    ),
]
