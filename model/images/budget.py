"""How much memory a picture takes while it is decoded, told from its header, and a bound on it.

What is counted was measured on the largest pictures of every format and mode.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

PIXEL_BYTES = 12
"""Of the dearest format, WebP: libwebp's two canvases, and what it hands over."""

_IMAGE_BYTES = 4
"""Of a pixel in Pillow, whatever it holds; those of one channel take less."""
_TWO_IMAGES_BYTES = 2 * _IMAGE_BYTES
"""Turning, converting and laying on white each make a second image beside the first."""


def count_bytes(image: Image.Image, file_bytes: int, coefficients: int = 0) -> int:
    """Bytes that decoding takes at its peak, until an upright image of mode RGB is there.

    Args:
        image: opened, and not loaded; perhaps at a reduced size.
        file_bytes: its file's, of which there is a second copy.
        coefficients: bytes that libjpeg holds besides; see `jpeg.coefficient_bytes`.
    """
    pixels = image.width * image.height
    each = PIXEL_BYTES if image.format == "WEBP" else _TWO_IMAGES_BYTES
    return file_bytes + max(pixels * each, pixels * _IMAGE_BYTES + coefficients)


class MemoryBudget:
    """Lets pictures be decoded at once as long as what they take stays within a sum.

    Attributes:
        free: bytes that nobody holds.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.free = most
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them; who needs more than all gets all."""
        count = min(count, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self.free >= count)
            self.free -= count
        try:
            yield
        finally:
            with self._changed:
                self.free += count
                self._changed.notify_all()
