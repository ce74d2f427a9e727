"""The contract of an image format."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, ClassVar, Self

from PIL import Image

from model.images.orientation import UPRIGHT

if TYPE_CHECKING:
    from model.images.decoded_image import Box, NeededSize, Size

_IMAGE_BYTES = 4
"""Memory of a pixel in Pillow; images of one channel take less."""
_LEAST_NS = 1_000_000
_PIXEL_NS = 3.0
"""Of a decoded pixel that is laid out and resized."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Cost of decoding, in nanoseconds: a pixel, a byte of the file, and a pixel at most.

    Measured on images of one colour, of a photo and of noise in every format. It is an upper bound:
    a hostile image costs what its format can cost at most.
    """

    pixel: float
    byte: float
    most: float = math.inf


@dataclass(frozen=True, slots=True)
class EncodedImage(ABC):
    """An image file of one format, its header read but no pixel decoded.

    Attributes:
        data: the file.
        size: as stored, before any EXIF orientation.
        rate: what decoding costs; what the header does not tell is assumed at its most expensive.
        head: bytes to open in place of those before `start`, without what Pillow would walk in
            Python, byte by byte.
        start: offset of the pixels' data; 0 to open the file as it is.
        coefficient_bytes: memory that the decoder needs beside the image.
    """

    name: ClassVar[str]
    """Pillow's name of the format."""
    signature: ClassVar[re.Pattern[bytes]]
    """Matches the first bytes of a file."""
    pixel_bytes: ClassVar[int] = 2 * _IMAGE_BYTES
    """Peak memory of a pixel: turning, converting and laying on white each make a second image."""

    data: bytes
    size: Size
    rate: Rate
    _: KW_ONLY
    head: bytes = b""
    start: int = 0
    coefficient_bytes: int = 0

    @classmethod
    @abstractmethod
    def read(cls, data: bytes) -> Self:
        """Read the header.

        Raises:
            ImageError: it is damaged, cut, or too long.
        """

    def check(self) -> None:  # noqa: B027  # some formats have nothing to check
        """Check, without decoding a pixel, what Pillow leaves unbounded or unchecked.

        Raises:
            ImageError: decoding would take too long, or the file is damaged.
        """

    def open(self) -> Image.Image:
        """Open the file with Pillow, which decodes pixels only when they are loaded."""
        data = self.data
        if self.start:
            data = b"".join((self.head, memoryview(data)[self.start :]))  # one copy
        return Image.open(BytesIO(data), formats=(self.name,))

    def choose_scale(self, needed_size: NeededSize, orientation: int = UPRIGHT) -> int:  # noqa: ARG002  # one format can scale
        """Choose what `reduce` divides the sides by: 8, 4, 2 or 1."""
        return 1

    def reduce(self, image: Image.Image, needed_size: NeededSize) -> Box:  # noqa: ARG002  # see above
        """Set the size that an opened image is decoded at.

        Args:
            image: as `open` returns it; its size may change.
            needed_size: called with the image's upright size.

        Returns:
            The part of the decoded image that the full one covers.
        """
        return (0, 0, *image.size)

    def predict_seconds(self, needed_size: NeededSize) -> float:
        """Predict how long a core takes to decode and resize, in seconds; see `Rate`."""
        pixels = self.size[0] * self.size[1]
        scale = self.choose_scale(needed_size)  # without EXIF, which seldom changes it
        decoding = min(
            self.rate.most * pixels, self.rate.pixel * pixels + self.rate.byte * len(self.data)
        )
        return (_LEAST_NS + _PIXEL_NS * pixels / scale**2 + decoding) / 1e9

    def peak_bytes(self, pixels: int) -> int:
        """Memory at the peak of decoding so many pixels into an upright image of mode RGB."""
        image_bytes = pixels * _IMAGE_BYTES + self.coefficient_bytes
        return len(self.data) + max(pixels * self.pixel_bytes, image_bytes)
