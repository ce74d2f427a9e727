"""Media types: which of those on offer a client prefers, and arrays in the binary ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from app.errors import NotAcceptableError

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"


def negotiate(accept: str, offers: Sequence[str]) -> str:
    """The offer that an Accept header prefers (RFC 9110, 12.5.1); the first of equals.

    Raises:
        NotAcceptableError: it accepts none of them.
    """
    ranges = [_parse_range(part) for part in accept.split(",")]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptableError
    return best


def encode_arrays(arrays: Mapping[str, NDArray[np.float32]], media_type: str, dtype: str) -> bytes:
    """Write arrays as `numpy.save` or `numpy.savez` do.

    Args:
        arrays: by name; exactly one for `NPY`.
        media_type: `NPY` or `NPZ`.
        dtype: of the numbers written, `float32` or `float16`.
    """
    buffer = BytesIO()
    cast = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
    if media_type == NPZ:
        np.savez(buffer, allow_pickle=False, **cast)
    else:
        (array,) = cast.values()
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _parse_range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media_range, float(parameter.removeprefix("q="))
            except ValueError:
                break
    return media_range, 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """What the most specific range that matches says of an offer; 0 where none does."""
    for wanted in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == wanted:
                return quality
    return 0.0
