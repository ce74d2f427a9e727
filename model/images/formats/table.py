"""The image formats that are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.errors import InvalidImageError, UnsupportedImageFormatError
from model.images.formats.bmp import Bmp
from model.images.formats.gif import Gif
from model.images.formats.jpeg import Jpeg
from model.images.formats.png import Png
from model.images.formats.webp import WebP

if TYPE_CHECKING:
    from model.images.formats.format import EncodedImage

_FORMATS: tuple[type[EncodedImage], ...] = (Jpeg, Png, WebP, Gif, Bmp)


def sniff(data: bytes) -> str | None:
    """Name the format that a file begins like: JPEG, PNG, WEBP, GIF, BMP, or None."""
    return next((one.name for one in _FORMATS if one.signature.match(data)), None)


def read_header(data: bytes) -> EncodedImage:
    """Read an image file's header.

    Raises:
        UnsupportedImageFormatError: it begins like no accepted format.
        ImageError: the header is damaged, cut, or too long, or the image has no area.
    """
    for one in _FORMATS:
        if one.signature.match(data):
            encoded = one.read(data)
            if 0 in encoded.size:
                raise InvalidImageError("no area")
            return encoded
    raise UnsupportedImageFormatError("no accepted format")
