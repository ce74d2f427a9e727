"""What Pillow does not check of a PNG (https://www.w3.org/TR/png-3/).

It takes Python time for every chunk, it skips the sums of the pixels' chunks, and it leaves rows
that are missing black.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.errors import ImageTooComplexError, ImageTruncatedError, InvalidImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from model.images.picture import Size

_SIGNATURE_BYTES = 8
_CHUNK_FRAME_BYTES = 12  # length, kind, and sum
_MAX_CHUNKS = 10_000
_HEADER_BYTES = 33
_WITH_ALPHA = (4, 6)  # colour types
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = (  # first column and row of each pass, and its steps
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_INFLATE_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20  # what Pillow takes of one chunk


@dataclass(frozen=True, slots=True)
class Header:
    """What a PNG says of its pixels.

    Attributes:
        size: width and height.
        bits: of one pixel.
        has_alpha: whether every pixel has its own; a transparent colour does not count.
    """

    size: Size
    bits: int
    has_alpha: bool


def read_header(data: bytes) -> Header:
    """Read the first chunk.

    Raises:
        InvalidImageError: it is not what a PNG begins with.
    """
    if len(data) < _HEADER_BYTES or data[12:16] != b"IHDR" or data[25] not in _CHANNELS:
        raise InvalidImageError("no header")
    size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return Header(size, data[24] * _CHANNELS[data[25]], data[25] in _WITH_ALPHA)


def check_chunks(data: bytes) -> None:
    """Bound the number of chunks, and compare the pixels' chunks with their sums.

    Raises:
        ImageTooComplexError: there are too many.
        InvalidImageError: a sum does not match.
    """
    for count, (kind, body, crc) in enumerate(_chunks(data)):
        if count >= _MAX_CHUNKS:
            raise ImageTooComplexError(f"more than {_MAX_CHUNKS} chunks")
        if kind == b"IDAT" and zlib.crc32(body, zlib.crc32(kind)) != crc:
            raise InvalidImageError("the pixels do not match their sum")


def check_text(data: bytes) -> None:
    """Inflate what is compressed besides the pixels, up to a bound for all of it.

    Pillow keeps all of it, up to 64 MiB, and has no error of its own for what is more.

    Raises:
        ImageTooComplexError: it inflates to more than it may.
    """
    left = _MAX_TEXT_BYTES
    for kind, body, _ in _chunks(data):
        pending = _compressed(kind, body)
        inflate = zlib.decompressobj()
        with suppress(zlib.error):
            while pending and left > 0:
                left -= len(inflate.decompress(pending, _INFLATE_BYTES))
                pending = inflate.unconsumed_tail
        if left <= 0:
            raise ImageTooComplexError(f"text of more than {_MAX_TEXT_BYTES} bytes")


def _compressed(kind: bytes, body: memoryview) -> bytes:
    """What of a chunk is compressed, if it holds a text or a profile."""
    if kind not in (b"zTXt", b"iTXt", b"iCCP"):
        return b""
    _, _, rest = bytes(body).partition(b"\0")  # a keyword
    if kind != b"iTXt":
        return rest[1:]  # a method
    # A flag, a method, a language, and the keyword in it.
    return rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\1" else b""


def check_rows(data: bytes, image: Image.Image) -> None:
    """Compare a loaded PNG's inflated pixels with its size.

    Missing rows are black; of an interlaced picture every second row is of the last pass. So only a
    picture with a black row among its last two is inflated a second time.

    Raises:
        ImageTruncatedError: it ends before its last row.
    """
    width, height = image.size
    last_rows = (image.crop((0, row, width, row + 1)) for row in range(max(0, height - 2), height))
    if all(any(row.tobytes()) for row in last_rows):
        return
    missing = _inflated_bytes(data, width, height)
    inflate = zlib.decompressobj()
    for kind, body, _ in _chunks(data):
        pending = bytes(body) if kind == b"IDAT" else b""
        while pending and missing > 0 and not inflate.eof:
            missing -= len(inflate.decompress(pending, _INFLATE_BYTES))
            pending = inflate.unconsumed_tail
    if missing > 0:
        raise ImageTruncatedError("rows are missing")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """The whole chunks up to the end: kind, body and CRC-32."""
    view, start = memoryview(data), _SIGNATURE_BYTES
    while True:
        end = start + _CHUNK_FRAME_BYTES + int.from_bytes(view[start : start + 4], "big")
        if end > len(data):
            return
        kind = bytes(view[start + 4 : start + 8])
        yield kind, view[start + 8 : end - 4], int.from_bytes(view[end - 4 : end], "big")
        if kind == b"IEND":
            return
        start = end


def _inflated_bytes(data: bytes, width: int, height: int) -> int:
    """Bytes that the header calls for: each row has one for its filter before its pixels."""
    depth, colour_type, interlaced = data[24], data[25], data[28]
    bits = depth * _CHANNELS[colour_type]
    total = 0
    for left, top, right, down in _ADAM7 if interlaced else _WHOLE:
        columns = len(range(left, width, right))
        rows = len(range(top, height, down))
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total
