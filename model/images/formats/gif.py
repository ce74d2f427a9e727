"""GIF: bounds what stands before the first frame (GIF89a).

Pillow walks it in Python, block by block and, where there is junk, byte by byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from model.errors import ImageTooComplexError, InvalidImageError
from model.images.formats.format import EncodedImage, Rate

if TYPE_CHECKING:
    from model.images.decoded_image import Size

_SCREEN_BYTES = 13
_HAS_PALETTE = 0x80
_FRAME, _EXTENSION, _CONTROL = b",", b"!", 0xF9
_FRAME_BYTES = 10
_MAX_BLOCKS = 10_000
_RATE = Rate(1, 10, 4)


@dataclass(frozen=True, slots=True)
class Gif(EncodedImage):
    """A GIF file; its size is the screen's, or the first frame's extent where that is larger.

    `head` leaves out all extensions but the frame's own control.
    """

    name = "GIF"
    signature = re.compile(rb"GIF8[79]a")

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read up to the first frame."""
        if len(data) < _SCREEN_BYTES:
            raise InvalidImageError("no screen")
        width, height = _read_pair(data, 6)
        position = _SCREEN_BYTES
        if data[10] & _HAS_PALETTE:
            position += 3 << (data[10] & 7) + 1
        head, control, blocks = data[:position], b"", 0
        while (kind := data[position : position + 1]) == _EXTENSION:
            start, left = position, 1
            position += 2
            while left:
                left = _byte(data, position)
                position += 1 + left
                blocks += 1
                if blocks > _MAX_BLOCKS:
                    raise ImageTooComplexError(f"more than {_MAX_BLOCKS} blocks before the frame")
            if data[start + 1] == _CONTROL:
                control = data[start:position]
        if kind != _FRAME or len(data) < position + _FRAME_BYTES:
            raise InvalidImageError("no frame")
        (left, top), (across, down) = _read_pair(data, position + 1), _read_pair(data, position + 5)
        size = max(width, left + across), max(height, top + down)
        return cls(data, size, _RATE, head=head + control, start=position)


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise InvalidImageError("no frame")
    return data[position]


def _read_pair(data: bytes, position: int) -> Size:
    first, second = data[position : position + 2], data[position + 2 : position + 4]
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")
