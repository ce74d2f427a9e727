"""WebP (https://developers.google.com/speed/webp/docs/riff_container): checks length and size.

libwebp does not say why it failed, and allocates its canvases before Pillow knows the size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Self

from PIL.WebPImagePlugin import WebPImageFile

from model.errors import ImageTruncatedError, InvalidImageError
from model.images.budget import PIXEL_BYTES
from model.images.formats.format import EncodedImage, Rate

_RIFF_BYTES = 12
_BODY = slice(20, 30)  # as much of the first chunk as holds the size
_NEEDED_BYTES = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}
_SIDE_BITS = 0x3FFF
_RATES = {b"VP8 ": Rate(5, 36, 32), b"VP8L": Rate(3, 13, 17), b"VP8X": Rate(8, 36, 35)}
"""Lossy, lossless, and extended, which may hold either and an alpha channel."""


class _StillImage(WebPImageFile):
    """A WebP of which only the first frame is wanted."""

    def load_prepare(self) -> None:
        """Free libwebp's canvases, half of the memory of a WebP: they serve later frames only.

        Pillow calls this after libwebp has decoded and before it allocates the image.
        """
        self._decoder = None
        super().load_prepare()


@dataclass(frozen=True, slots=True)
class WebP(EncodedImage):
    """A WebP file; libwebp bounds its own work."""

    name = "WEBP"
    signature = re.compile(rb"(?s)RIFF(?:.{4}WEBP|.{0,4}\Z)")  # or cut within it
    pixel_bytes = PIXEL_BYTES

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read the RIFF header and the first chunk."""
        if _RIFF_BYTES < len(data) < int.from_bytes(data[4:8], "little") + 8:
            raise ImageTruncatedError("shorter than its header says")
        kind, body = data[12:16], data[_BODY]
        if kind not in _NEEDED_BYTES or len(body) < _NEEDED_BYTES[kind]:
            raise InvalidImageError("no image")
        if kind == b"VP8 ":
            width, height = (
                int.from_bytes(body[at : at + 2], "little") & _SIDE_BITS for at in (6, 8)
            )
        elif kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            width, height = (bits & _SIDE_BITS) + 1, (bits >> 14 & _SIDE_BITS) + 1
        else:
            width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return cls(data, (width, height), _RATES[kind])

    def open(self) -> _StillImage:
        """Open the file for its first frame only."""
        return _StillImage(BytesIO(self.data))
