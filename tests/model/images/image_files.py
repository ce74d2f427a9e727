"""Images as bytes: encoded with Pillow, or written by hand where Pillow would not."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
"""Colour types of PNG."""

_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""Passes as (first row, first column, row step, column step)."""


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def noise(width: int = 80, height: int = 60) -> Image.Image:
    """An image that no format makes small."""
    values = np.random.default_rng(11).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def blocks() -> Image.Image:
    """Six flat squares in rows of three: upright is told from all its turns, even after JPEG."""
    colours = np.array(
        [
            [(230, 30, 30), (30, 200, 30), (30, 30, 220)],
            [(230, 220, 30), (120, 120, 120), (240, 240, 240)],
        ],
        np.uint8,
    )
    return Image.fromarray(colours.repeat(16, axis=0).repeat(16, axis=1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(
    width: int, height: int, depth: int = 8, colour: int = GREY, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def create_png(header: bytes, rows: Sequence[bytes], *extra: bytes) -> bytes:
    """A PNG of unfiltered rows, with extra chunks before its pixels."""
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = [header, *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(body)


def create_grey_png(*extra: bytes, rows: int = 4) -> bytes:
    """Four by four grey pixels, as many rows of them as asked for."""
    return create_png(png_header(4, 4), [bytes([10, 80, 160, 240])] * rows, *extra)


def create_interlaced_png(values: NDArray[np.uint8]) -> bytes:
    """RGB values (height, width, 3) as an Adam7 PNG."""
    height, width, _ = values.shape
    rows = [
        row.tobytes()
        for top, left, down, right in _ADAM7
        for row in values[top::down, left::right]
        if row.size
    ]
    return create_png(png_header(width, height, colour=RGB, interlace=1), rows)


def create_gif(screen: tuple[int, int], frame: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    """A GIF of one frame, (left, top, width, height), that holds one red pixel's data."""
    palette = b"\xff\0\0" + b"\0\0\xff"
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", *screen, 0x80, 1, 0)
        + palette
        + b","
        + struct.pack("<HHHHB", *frame, 0)
        + b"\x02\x02\x44\x01\x00;"
    )


def create_bmp(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A BMP of 24 bits a pixel; a negative height counts rows from the top."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def patch_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG, saying in its frame header that it is larger."""
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


def add_scans(data: bytes, count: int) -> bytes:
    """The same progressive JPEG with its last scan written again and again."""
    last_scan, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last_scan:end] * count + data[end:]


def create_exif(orientation: bytes, kind: int = 3, count: int = 1) -> bytes:
    """EXIF with nothing but an orientation, of a TIFF field type and four bytes of value."""
    entry = struct.pack("<HHI", 0x0112, kind, count) + orientation.ljust(4, b"\0")
    return b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\x01\0" + entry + bytes(4)
