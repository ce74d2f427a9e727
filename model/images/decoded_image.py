"""What decoding hands to preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

NeededSize = Callable[[Size], Size | None]
"""The size that an upright image will be resized to; None if its pixels are used as they are."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright image, perhaps decoded at a reduced size.

    Attributes:
        image: of mode RGB.
        size: at full size.
        box: the part of `image` that the full image covers. Reduced sides are rounded up, so the
            last column or row may be covered in part only; ignoring that shift would cause most of
            the error that reducing makes.
    """

    image: Image.Image
    size: Size
    box: Box

    @classmethod
    def whole(cls, image: Image.Image) -> Self:
        """Wrap an image at its full size."""
        return cls(image, image.size, (0, 0, *image.size))
