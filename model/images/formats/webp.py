"""What Pillow leaves open about a WebP (https://developers.google.com/speed/webp/docs/riff_container).

libwebp does not say why it failed, and takes its canvases' memory before the size is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL.WebPImagePlugin import WebPImageFile

from model.errors import ImageTruncatedError, InvalidImageError

if TYPE_CHECKING:
    from model.images.picture import Size

_RIFF_BYTES = 12
_BODY = slice(20, 30)  # of the first chunk, as much as it takes to tell the size
_NEEDED_BYTES = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}
_SIDE_BITS = 0x3FFF


class StillImage(WebPImageFile):
    """A WebP of which only the first picture is wanted, as `Image.open` would give it."""

    def load_prepare(self) -> None:
        """Pillow's, once libwebp has decoded and before the image's memory is taken.

        libwebp's two canvases, half of what a WebP would take, are for the pictures that follow.
        """
        self._decoder = None
        super().load_prepare()


@dataclass(frozen=True, slots=True)
class Header:
    """What a WebP says of its first picture, or of its canvas; its first chunk's kind."""

    size: Size
    kind: bytes


def check_length(data: bytes) -> None:
    """Compare with the length that the RIFF header declares.

    Raises:
        ImageTruncatedError: the data end before it.
    """
    if _RIFF_BYTES < len(data) < int.from_bytes(data[4:8], "little") + 8:
        raise ImageTruncatedError("shorter than its header says")


def read_header(data: bytes) -> Header:
    """Read the first chunk: VP8 (lossy), VP8L (lossless) or VP8X (extended).

    Raises:
        InvalidImageError: it is another, or cut.
    """
    kind, body = data[12:16], data[_BODY]
    if kind not in _NEEDED_BYTES or len(body) < _NEEDED_BYTES[kind]:
        raise InvalidImageError("no picture")
    if kind == b"VP8 ":
        width, height = (int.from_bytes(body[at : at + 2], "little") & _SIDE_BITS for at in (6, 8))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & _SIDE_BITS) + 1, (bits >> 14 & _SIDE_BITS) + 1
    else:
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    return Header((width, height), kind)
