"""Makes photos to send: those of a folder, or varied ones made from the tests'."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageEnhance

_SOURCES = Path(__file__).parents[1] / "tests" / "images"
_SHORT_SIDES = (330, 460)
_QUALITY = 93


def load_photos(folder: Path | None = None, count: int = 240) -> list[bytes]:
    """Return JPEG files, no two alike.

    Args:
        folder: whose `*.jpg` to take; None makes them: crops of the tests' photos, tilted and
            brightened at random with a fixed seed, of about 470x400 pixels.
        count: how many at most.
    """
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:count]]
    chance = random.Random(0)  # noqa: S311  # the same photos every time
    sources = [Image.open(path).convert("RGB") for path in sorted(_SOURCES.glob("*.jpg"))]
    return [_vary(sources[number % len(sources)], chance) for number in range(count)]


def resize_photo(photo: bytes, megapixels: float) -> bytes:
    """Return the same photo at another size."""
    image = Image.open(BytesIO(photo))
    factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = round(image.width * factor), round(image.height * factor)
    return encode(image.resize(size, Image.Resampling.BICUBIC))


def encode(image: Image.Image) -> bytes:
    """Return a JPEG of the quality that all photos here have, with 4:2:0 subsampling."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _vary(image: Image.Image, chance: random.Random) -> bytes:
    width, height = image.size
    left, top = chance.uniform(0, 0.1) * width, chance.uniform(0, 0.1) * height
    box = left, top, width * chance.uniform(0.9, 1), height * chance.uniform(0.9, 1)
    factor = chance.randint(*_SHORT_SIDES) / min(width, height)
    size = round(width * factor), round(height * factor)
    varied = image.rotate(chance.uniform(-4, 4)).resize(size, Image.Resampling.BICUBIC, box)
    return encode(ImageEnhance.Brightness(varied).enhance(chance.uniform(0.8, 1.2)))
