"""BMP: bounds run-length encoding (RLE8 and RLE4), which Pillow decodes in Python."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from model.errors import ImageTooComplexError, InvalidImageError
from model.images.formats.format import EncodedImage, Rate

_OLD_HEADER_BYTES = 12
_SIZED_BYTES = 26
_RLE = (1, 2)  # compressions
_MAX_RLE_PIXELS = 1_000_000
_MAX_RLE_BYTES = 300_000
_RATE = Rate(0, 0, 0)
"""Uncompressed pixels cost next to nothing."""
_RLE_RATE = Rate(0, 150, 150)


@dataclass(frozen=True, slots=True)
class Bmp(EncodedImage):
    """A BMP file."""

    name = "BMP"
    signature = re.compile(rb"BM")

    is_rle: bool

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read the file header and the info header."""
        if len(data) < _SIZED_BYTES:
            raise InvalidImageError("no header")
        if int.from_bytes(data[14:18], "little") == _OLD_HEADER_BYTES:
            size = int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
            return cls(data, size, _RATE, is_rle=False)
        height = abs(int.from_bytes(data[22:26], "little", signed=True))  # negative: top row first
        size = int.from_bytes(data[18:22], "little"), height
        is_rle = int.from_bytes(data[30:34], "little") in _RLE
        return cls(data, size, _RLE_RATE if is_rle else _RATE, is_rle)

    def check(self) -> None:
        """Bound the pixels and bytes of run-length encoding."""
        pixels = self.size[0] * self.size[1]
        if self.is_rle and (pixels > _MAX_RLE_PIXELS or len(self.data) > _MAX_RLE_BYTES):
            raise ImageTooComplexError("too much run-length encoding")
