"""What the corpus is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.model.images.image_files import encode

_IMAGES = Path(__file__).parents[1] / "images"
CAT = _IMAGES / "cat.jpg"
PHOTO = _IMAGES / "coffee.jpg"
"""Its class is certain: a little noise does not change it."""
LOSSY, FEW_COLOURS = 0.98, 0.90
"""Least cosines between the embeddings of a valid image and of the same as a plain RGB PNG."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file of the corpus, and what the service says to it.

    Attributes:
        id: of the family it belongs to; V is valid, B is bad.
        what: it is.
        make: creates its bytes, the same ones every time.
        status: of the answer, with its code where that is an error.
        shows: what a valid one shows; its answer is like that image's. None: any finite answer.
        cosine: of the two embeddings at least, and their best classes are the same.
        work: what an answer may cost, in `phone_photo`s of an ordinary server or decoder.
        bomb: looks small, and its `work` and memory are measured in the decoder alone.
        multipart: also sent as a form, which makes the body longer.
        slow: sent by `make test WHAT=reliability` only.
        decided: why it is answered otherwise than most would expect.
    """

    id: str
    what: str
    make: Callable[[], bytes]
    status: int = 200
    code: str | None = None
    shows: Callable[[], Image.Image] | None = None
    cosine: float = LOSSY
    work: int = 1
    bomb: bool = False
    multipart: bool = True
    slow: bool = False
    decided: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.what}"


def invalid(id_: str, what: str, make: Callable[[], bytes], *, bomb: bool = False) -> Row:
    return Row(id_, what, make, 422, "invalid_image", bomb=bomb)


def truncated(id_: str, what: str, make: Callable[[], bytes]) -> Row:
    return Row(id_, what, make, 422, "image_truncated")


def unsupported(id_: str, what: str, make: Callable[[], bytes], decided: str = "") -> Row:
    return Row(id_, what, make, 415, "unsupported_image_format", decided=decided)


def too_large(id_: str, what: str, make: Callable[[], bytes]) -> Row:
    return Row(id_, what, make, 413, "image_too_large", bomb=True)


def too_complex(id_: str, what: str, make: Callable[[], bytes], decided: str = "") -> Row:
    return Row(id_, what, make, 422, "image_too_complex", bomb=True, decided=decided)


@cache
def photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


@cache
def grey_photo() -> Image.Image:
    return photo().convert("L")


def as_rgb(values: NDArray[np.uint8]) -> Image.Image:
    """An image of grey or RGB values."""
    return Image.fromarray(values).convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


@cache
def half_transparent() -> Image.Image:
    """The photo, the less opaque the further to the right."""
    image = photo().convert("RGBA")
    ramp = np.linspace(255, 60, image.width).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(ramp, (image.height, 1))))
    return image


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def flat(width: int, height: int, image_format: str, mode: str = "RGB") -> bytes:
    return encode(Image.new(mode, (width, height), 90 if mode == "L" else None), image_format)


@cache
def phone_photo() -> bytes:
    """An ordinary JPEG of 12 megapixels: the unit of work."""
    return encode(photo().resize((4000, 3000)), "JPEG", quality=90)


def random_bytes(count: int) -> bytes:
    return np.random.default_rng(11).bytes(count)
