"""Chooses the media type of a response, and writes its headers and arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from python_multipart.multipart import parse_options_header

from app.errors import NotAcceptableError
from app.inference.answers import Arrays, CacheOutcome
from app.inference.options import Dtype

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"


def negotiate(accept: str, offers: Sequence[str]) -> str:
    """Choose the offer that an Accept header prefers (RFC 9110, 12.5.1); the first of equals.

    Raises:
        NotAcceptableError: the header accepts no offer.
    """
    qualities = dict(map(_parse_range, accept.split(",")))

    def quality(offer: str) -> float:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")  # the most specific one decides
        return next((qualities[one] for one in ranges if one in qualities), 0.0)

    best = max(offers, key=quality)
    if quality(best) <= 0:
        raise NotAcceptableError
    return best


def cache_header(outcomes: Sequence[CacheOutcome]) -> dict[str, str]:
    """Tell where the answer to a request of one image was found; nothing for more images."""
    return {"X-Cache": outcomes[0]} if len(outcomes) == 1 else {}


def create_etag(content: bytes) -> str:
    """Make an ETag of a response's body."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def encode_arrays(arrays: Arrays, media_type: str, dtype: Dtype) -> bytes:
    """Write arrays as `numpy.savez` does for `NPZ`; for `NPY` one, as `numpy.save` does."""
    buffer = BytesIO()
    cast = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
    if media_type == NPZ:
        np.savez(buffer, allow_pickle=False, **cast)
    else:
        (array,) = cast.values()
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _parse_range(text: str) -> tuple[str, float]:
    media_range, parameters = parse_options_header(text)
    try:
        quality = float(parameters.get(b"q", 1))
    except ValueError:
        quality = 1.0
    return media_range.decode("latin-1"), quality
