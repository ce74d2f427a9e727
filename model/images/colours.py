"""Converts any mode of Pillow to RGB, on white."""

from __future__ import annotations

from PIL import Image

_BACKGROUND = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB and lay transparency on white; colour profiles are ignored."""
    if image.mode == "I;16":  # convert() would clip 16 bits to white
        image = replace(image, image.point(lambda value: value * (1 / 256)))
        image = replace(image, image.convert("L"))
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = replace(image, image.convert("RGBA"))
        background = Image.new("RGB", image.size, _BACKGROUND)
        background.paste(image, mask=image)
        return replace(image, background)
    return image if image.mode == "RGB" else replace(image, image.convert("RGB"))


def replace(image: Image.Image, successor: Image.Image) -> Image.Image:
    """Free an image once its successor is made: the memory budget counts two, not three."""
    if successor is not image:
        image.close()
    return successor
