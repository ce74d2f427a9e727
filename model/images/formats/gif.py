"""What Pillow does not bound of a GIF: what may stand before its first frame (GIF89a).

Pillow walks it in Python, block by block and, where there is junk, byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.errors import ImageTooComplexError, InvalidImageError

if TYPE_CHECKING:
    from model.images.picture import Size

_SCREEN_BYTES = 13
_HAS_PALETTE = 0x80
_FRAME, _EXTENSION, _CONTROL = b",", b"!", 0xF9
_FRAME_BYTES = 10
_MAX_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """What a GIF says before its first frame's pixels.

    Attributes:
        size: width and height of its screen, or of what the frame needs where that is more.
        head: what stands before the frame, without extensions but for what controls the frame.
        start: where the frame begins.
    """

    size: Size
    head: bytes
    start: int


def read_header(data: bytes) -> Header:
    """Read a GIF up to its first frame.

    Raises:
        ImageTooComplexError: too much stands before the frame.
        InvalidImageError: there is no frame.
    """
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
    return Header(size, head + control, position)


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise InvalidImageError("no frame")
    return data[position]


def _read_pair(data: bytes, position: int) -> Size:
    first, second = data[position : position + 2], data[position + 2 : position + 4]
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")
