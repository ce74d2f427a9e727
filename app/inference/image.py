"""An image in either form that a request may send: a file's bytes, or pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from model.images.formats.table import sniff

PIXELS: Final = "pixels"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of a JPEG, PNG, WebP, GIF or BMP file, not checked yet."""

    data: bytes

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.data)

    @property
    def format(self) -> str:
        """The format that the first bytes tell: `jpeg`, `png`, ... or `unknown`."""
        return (sniff(self.data) or "unknown").lower()

    def digest(self) -> Hashable:
        """Identify the content; takes 0.5 ms a megabyte."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True, slots=True, eq=False)
class ImagePixels:
    """An engine's input as it is: (height, width, 3), uint8."""

    pixels: NDArray[np.uint8]
    format: ClassVar = PIXELS

    @property
    def nbytes(self) -> int:
        """Size of the pixels in bytes."""
        return self.pixels.nbytes

    def digest(self) -> Hashable:
        """Identify the content; the shape tells it from a file of the same bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).digest(), self.pixels.shape


Image = ImageFile | ImagePixels
