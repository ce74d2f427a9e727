"""A JSON body: bounded, parsed off the event loop where it is large, and the base64 in it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import InvalidParameterError, MalformedRequestError

_T = TypeVar("_T")
_Body = TypeVar("_Body", bound=BaseModel)

_ON_LOOP_BYTES: Final = 65_536
"""Up to here JSON is parsed on the event loop: less work than a thread hop."""
_MAX_VALUES: Final = 1_250_000
"""Eight images of 224 pixels, as numbers. Each takes up to forty bytes of memory: a large body of
nothing but short ones would take a gigabyte."""
_MAX_OBJECTS: Final = 1_000
"""Each takes hundreds of bytes, and no request has use for many."""


async def offload(size: int, work: Callable[[], _T]) -> _T:
    """Do work on so many bytes: on the event loop if they are few, else in a thread."""
    return work() if size <= _ON_LOOP_BYTES else await asyncio.to_thread(work)


def read_json(schema: type[_Body], body: bytes) -> _Body:
    """Parse a body.

    Raises:
        MalformedRequestError: it is no JSON, nested too deeply, or has too many values.
        ValidationError: it is JSON, but not what the schema says.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise MalformedRequestError(f"The JSON has more than {_MAX_VALUES:,} values.")
    if body.count(b"{") > _MAX_OBJECTS:
        raise MalformedRequestError(f"The JSON has more than {_MAX_OBJECTS:,} objects.")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise MalformedRequestError from error
        raise


def parse_json(schema: type[_Body], body: bytes) -> _Body:
    """Parse a body, and say what is wrong with it.

    Raises:
        MalformedRequestError: see `read_json`.
        InvalidParameterError: a field is missing, unknown, or not valid; the sentence names it.
    """
    try:
        return read_json(schema, body)
    except ValidationError as error:
        raise _explain(error) from error


def decode_base64(text: str) -> bytes:
    """The bytes of base64, or of a data: URI with base64.

    Raises:
        InvalidParameterError: it is neither.
    """
    if text.startswith("data:"):
        head, separator, text = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise InvalidParameterError("A data: URI must end its head with `;base64,`.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameterError("The image is not valid base64.") from error


def _explain(error: ValidationError) -> InvalidParameterError:
    """Which field is wrong and why, without a word that the client sent."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = first["loc"]
    if first["type"] == "extra_forbidden":
        return InvalidParameterError("There is an unknown field; /docs lists those of this route.")
    if not path:
        return InvalidParameterError("The body must be a JSON object.")
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return InvalidParameterError(f"{''.join(steps)[1:]}: {first['msg']}.", str(path[0]))
