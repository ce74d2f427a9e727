"""Turns images upright by their EXIF orientation, 1 to 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from model.images.decoded_image import Box, Size

UPRIGHT = 1
_TAG = 0x0112
_EXIF = ("exif", "Raw profile type exif")
_MAX_EXIF_BYTES = 1 << 17
"""A JPEG holds up to 64 KiB, some PNGs the same in hexadecimal. Pillow walks it in Python."""
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_STARTS_RIGHT = (2, 3, 6, 7)
"""Orientations whose stored top left corner is on the right of the upright image."""
_STARTS_BELOW = (3, 4, 7, 8)


def read_orientation(image: Image.Image) -> int:
    """Read the orientation; EXIF that is damaged or huge counts as upright."""
    if max(len(image.info.get(name) or "") for name in _EXIF) > _MAX_EXIF_BYTES:
        return UPRIGHT
    try:
        orientation = image.getexif().get(_TAG)
    except Exception:  # noqa: BLE001  # hostile EXIF raises whatever it likes
        return UPRIGHT
    return orientation if isinstance(orientation, int) else UPRIGHT


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright."""
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def turn_size(size: Size, orientation: int) -> Size:
    """Turn a size upright, or back."""
    width, height = size
    return (height, width) if orientation in _SIDEWAYS else (width, height)


def turn_box(box: Box, image_size: Size, orientation: int) -> Box:
    """Turn a box upright.

    Args:
        box: beginning in the top left corner of the image as stored.
        image_size: as stored.
        orientation: from EXIF.
    """
    _, _, right, below = box
    width, height = turn_size(image_size, orientation)
    if orientation in _SIDEWAYS:
        right, below = below, right
    left = width - right if orientation in _STARTS_RIGHT else 0.0
    top = height - below if orientation in _STARTS_BELOW else 0.0
    return left, top, left + right, top + below
