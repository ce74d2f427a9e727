"""Converts any mode of Pillow to RGB, on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

_BACKGROUND = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB and lay transparency on white; colour profiles are ignored."""
    if image.mode == "I;16":
        image = replace(image, _reduce_16_bits(image))
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = replace(image, image.convert("RGBA"))
        background = Image.new("RGB", image.size, _BACKGROUND)
        background.paste(image, mask=image)
        return replace(image, background)
    return image if image.mode == "RGB" else replace(image, image.convert("RGB"))


def _reduce_16_bits(image: Image.Image) -> Image.Image:
    """Keep the high bytes: convert() would clip to white. The transparent grey has 16 bits."""
    key = image.info.pop("transparency", None)
    grey = image.point(lambda value: value * (1 / 256)).convert("L")
    if key is None:
        return grey
    opaque = Image.fromarray(np.asarray(image) != key).convert("L")
    return Image.merge("LA", (grey, opaque))


def replace(image: Image.Image, successor: Image.Image) -> Image.Image:
    """Free an image once its successor is made: the memory budget counts two, not three."""
    if successor is not image:
        image.close()
    return successor
