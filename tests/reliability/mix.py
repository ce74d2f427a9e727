"""A mixture of requests, seeded: good images of many sizes and formats, bad ones, all routes."""

from __future__ import annotations

import random
from functools import cache
from io import BytesIO

from tests.corpus.exchanges import BAD, form
from tests.corpus.row import CAT, photo
from tests.corpus.table import ROWS
from tests.reliability.mutation import post

_BOUNDARY = "multipart/form-data; boundary=B"
_SIDES = (1, 32, 100, 224, 300, 500, 800, 1200)
_BAD_BYTES = 100_000
"""Larger ones are bombs, which have a test of their own."""


@cache
def good_images() -> list[bytes]:
    """Every size in every format."""
    images = [CAT.read_bytes()]
    for side in _SIDES:
        for image_format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
            if side > 500 and image_format in {"GIF", "BMP"}:
                continue
            file = BytesIO()
            photo().resize((side, side * 3 // 4 or 1)).save(file, image_format)
            images.append(file.getvalue())
    return images


@cache
def bad_images() -> list[bytes]:
    """Those of the corpus that are not large."""
    files = (row.make() for row in ROWS if row.status != 200 and not row.slow)
    return [file for file in files if 0 < len(file) <= _BAD_BYTES]


def closing(request: bytes) -> bytes:
    """The request with the wish to close the connection after the answer."""
    return request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def good(chance: random.Random) -> bytes:
    """A request for one image's classes or features."""
    image = chance.choice(good_images())
    path = chance.choice(("/classify", "/classify?top_k=1001", "/embed", "/embed?layer=5,11,13"))
    if chance.random() < 0.5:
        return post(path, image, "image/jpeg")
    return post(path, _part(image) + b"--B--\r\n", _BOUNDARY)


def bad(chance: random.Random) -> bytes:
    """A request that is refused, for its image or for itself."""
    path = chance.choice(("/classify", "/embed", "/classify/batch"))
    kind = chance.choice(("image", "image", "form", "message"))
    if kind == "message":
        data = b"".join(chance.choice(BAD[:4]).make("/classify"))
        return data if chance.random() < 0.5 else b"POST /classify HTTP/1.1\r\nHost: x y\r\n\r\n"
    if kind == "form" or path.endswith("batch"):
        return post(path, form(b'name="other"') if kind == "form" else b"", _BOUNDARY)
    return post(path, chance.choice(bad_images()), "image/jpeg")


def many(chance: random.Random) -> bytes:
    """A batch, one of whose images may be bad."""
    images = chance.choices(good_images()[:12], k=chance.randrange(1, 5))
    if chance.random() < 0.3:
        images.append(chance.choice(bad_images()))
    path = chance.choice(("/classify/batch", "/embed/batch"))
    return post(path, b"".join(map(_part, images)) + b"--B--\r\n", _BOUNDARY)


def mixed(number: int) -> bytes:
    """Of ten requests five are good, four bad, and one has several images."""
    chance = random.Random(number)  # noqa: S311  # reproducible, not secret
    (kind,) = chance.choices((good, bad, many), (5, 4, 1))
    return closing(kind(chance))


def _part(image: bytes) -> bytes:
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return head + image + b"\r\n"
