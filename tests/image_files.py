"""Images made for a test."""

from __future__ import annotations

from io import BytesIO

from PIL import Image


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def uniform(value: int, size: tuple[int, int] = (8, 8), image_format: str = "PNG") -> bytes:
    """An image of one grey, whose pixels are `value` whatever resizing does."""
    return encode(Image.new("RGB", size, (value, value, value)), image_format)
