"""What decoding hands to preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from PIL import Image

    Size = tuple[int, int]
    """Width and height in pixels."""

    Box = tuple[float, float, float, float]
    """Left, top, right and bottom in pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture, and how it was decoded.

    Attributes:
        image: of mode RGB, perhaps at a reduced size.
        size: of the picture at its full size.
        box: where it lies on `image`: sides are rounded up when they are reduced, so that the last
            column or row may show the picture on a part of its pixels only. What that shifts is
            most of what reducing would change.
    """

    image: Image.Image
    size: Size
    box: Box

    @classmethod
    def whole(cls, image: Image.Image) -> Self:
        """An image at its full size."""
        return cls(image, image.size, (0, 0, *image.size))
