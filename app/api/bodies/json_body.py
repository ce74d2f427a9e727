"""Parses JSON bodies: bounded, and off the event loop where they are large."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.validation import explain
from app.errors import InvalidParameterError, MalformedRequestError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Body = TypeVar("_Body", bound=BaseModel)

_ON_LOOP_BYTES: Final = 65_536
"""The largest JSON that is parsed on the event loop: a thread hop would cost more."""
_MAX_VALUES: Final = 1_250_000
"""Enough for eight images of 224 pixels as numbers. Each value takes up to forty bytes of memory: a
large body of nothing but short values would take a gigabyte."""
_MAX_OBJECTS: Final = 1_000
"""Each object takes hundreds of bytes, and no request needs many."""


async def offload(size: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run work on `size` bytes: on the event loop if they are few, else in a thread."""
    if size <= _ON_LOOP_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def parse_json(schema: type[_Body], body: bytes) -> _Body:
    """Parse a body.

    Raises:
        MalformedRequestError: the body is not JSON, nested too deeply, or has too many values.
        InvalidParameterError: names the field that is missing, unknown, or not valid.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise MalformedRequestError(f"The JSON has more than {_MAX_VALUES:,} values.")
    if body.count(b"{") > _MAX_OBJECTS:
        raise MalformedRequestError(f"The JSON has more than {_MAX_OBJECTS:,} objects.")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise MalformedRequestError from error
        raise explain(errors) from error


def decode_base64(text: str, place: str = "") -> bytes:
    """Decode base64, or a data: URI with base64.

    Raises:
        InvalidParameterError: the text is neither; the message begins with its place, if given.
    """
    prefix = f"{place}: " if place else ""
    if text.startswith("data:"):
        head, separator, text = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise InvalidParameterError(f"{prefix}A data: URI must end its head with `;base64,`.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameterError(f"{prefix}The image is not valid base64.") from error
