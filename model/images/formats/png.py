"""PNG (https://www.w3.org/TR/png-3/): bounds chunks and texts, and checks the pixels' checksums.

Pillow spends Python time on every chunk, and skips the checksums of the pixels.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from model.errors import ImageTooComplexError, InvalidImageError
from model.images.formats.format import EncodedImage, Rate

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_CHUNK_FRAME_BYTES = 12  # length, kind and checksum
_MAX_CHUNKS = 10_000
_HEADER_BYTES = 33
_WITH_ALPHA = (4, 6)  # colour types
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_INFLATE_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20  # what Pillow accepts of one chunk
_RAW_NS, _RAW_MOST_NS = 1, 5
"""Of an inflated byte."""
_BYTE_NS = 40
_ALPHA_NS = 3.0
"""Of a pixel that is laid on white."""


@dataclass(frozen=True, slots=True)
class Png(EncodedImage):
    """A PNG file."""

    name = "PNG"
    signature = re.compile(rb"\x89PNG\r\n\x1a\n")

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read the first chunk: inflating costs by the byte, laying on white by the pixel."""
        if len(data) < _HEADER_BYTES or data[12:16] != b"IHDR" or data[25] not in _CHANNELS:
            raise InvalidImageError("no header")
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        raw_bytes = data[24] * _CHANNELS[data[25]] / 8
        alpha = _ALPHA_NS if data[25] in _WITH_ALPHA else 0  # a transparent colour does not count
        rate = Rate(raw_bytes * _RAW_NS + alpha, _BYTE_NS, raw_bytes * _RAW_MOST_NS + alpha)
        return cls(data, size, rate)

    def check(self) -> None:
        """Bound the chunks and what their texts inflate to; verify the pixels' checksums."""
        left = _MAX_TEXT_BYTES
        for count, (kind, body, checksum) in enumerate(_chunks(self.data)):
            if count >= _MAX_CHUNKS:
                raise ImageTooComplexError(f"more than {_MAX_CHUNKS} chunks")
            if kind == b"IDAT" and zlib.crc32(body, zlib.crc32(kind)) != checksum:
                raise InvalidImageError("the pixels do not match their checksum")
            # Pillow keeps up to 64 MiB of all texts, and has no error of its own for more.
            left -= _inflated_bytes(_compressed(kind, body), left)
            if left <= 0:
                raise ImageTooComplexError(f"text of more than {_MAX_TEXT_BYTES} bytes")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Kind, body and CRC-32 of each whole chunk up to the end."""
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


def _compressed(kind: bytes, body: memoryview) -> bytes:
    """The compressed part of a chunk that holds a text or a colour profile."""
    if kind not in (b"zTXt", b"iTXt", b"iCCP"):
        return b""
    _, _, rest = bytes(body).partition(b"\0")  # a keyword
    if kind != b"iTXt":
        return rest[1:]  # a method
    # A flag, a method, a language, and the keyword in it.
    return rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\1" else b""


def _inflated_bytes(compressed: bytes, most: int) -> int:
    """How many bytes data inflate to; counting ends at `most`."""
    count, inflate = 0, zlib.decompressobj()
    with suppress(zlib.error):
        while compressed and count < most:
            count += len(inflate.decompress(compressed, _INFLATE_BYTES))
            compressed = inflate.unconsumed_tail
    return count
