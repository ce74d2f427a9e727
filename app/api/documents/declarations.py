"""Describes a route's errors, and the bodies that it reads itself, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from app import errors
from app.api.bodies.responses import JSON
from app.api.problems import NATIVE, ErrorFormat
from app.errors import AppError

Declaration = dict[str, Any]
Responses = dict[int | str, Declaration]

BINARY: Final[Declaration] = {"type": "string", "format": "binary"}

OF_EVERY_ROUTE: Final = (
    errors.MalformedRequestError,
    errors.RequestTimeoutError,
    errors.UriTooLongError,
    errors.OverloadedError,
    errors.HeadersTooLargeError,
    AppError,
)
"""What the server refuses before routing, and the last resort."""
OF_A_MODEL: Final = (errors.ModelNotFoundError, errors.NotReadyError)
"""Errors of a route that takes a model's name."""
OF_IMAGES: Final = (
    *OF_A_MODEL,
    errors.BodyTooLargeError,
    errors.ImageTooLargeError,
    errors.UnsupportedContentEncodingError,
    errors.UnsupportedImageFormatError,
    errors.EmptyFileError,
    errors.ImageTruncatedError,
    errors.ImageTooComplexError,
    errors.InvalidImageError,
    errors.InvalidParameterError,
    errors.ModelOutputInvalidError,
    errors.OutOfMemoryError,
    errors.ShuttingDownError,
    errors.DeadlineExceededError,
)
"""Errors of a route that takes images, in whatever body."""
OF_UPLOADS: Final = (
    *OF_IMAGES,
    errors.MalformedMultipartError,
    errors.UnsupportedMediaTypeError,
    errors.MissingFileError,
    errors.TooManyFilesError,
)
"""Errors of a route that takes images in forms, too."""

RETRY_AFTER: Final[Declaration] = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
_BACK_SOON: Final = frozenset({429, 503})


def declare_errors(error_format: ErrorFormat, *more: type[AppError]) -> Responses:
    """Return FastAPI's `responses` of these errors and those of every route.

    A foreign protocol also declares its format for every other status: FastAPI would otherwise add
    a 422 in its own.
    """
    declared: set[type[AppError]] = {*OF_EVERY_ROUTE, *more}
    by_status: dict[int, list[type[AppError]]] = {}
    for error in sorted(declared, key=lambda error: (error.status, error.code)):
        by_status.setdefault(error_format.status(error), []).append(error)
    responses: Responses = {
        status: declare_response(error_format, *of_status)
        for status, of_status in by_status.items()
    }
    if error_format is not NATIVE:
        content = {error_format.media_type: {"schema": _refer("schemas", error_format, "error")}}
        responses["default"] = {"description": "Any other error", "content": content}
    return responses


def declare_response(error_format: ErrorFormat, *of_status: type[AppError]) -> Declaration:
    """Describe a response that is one of several errors, each with an example."""
    content = {
        "schema": _refer("schemas", error_format, "error"),
        "examples": {one.code: _refer("examples", error_format, one.code) for one in of_status},
    }
    response = {
        "description": ". ".join(error.title for error in of_status),
        "content": {error_format.media_type: content},
    }
    if error_format.status(of_status[0]) in _BACK_SOON:
        response["headers"] = RETRY_AFTER
    return response


def component_name(error_format: ErrorFormat, item: str) -> str:
    """Name the schema of a protocol's errors (`error`), or the example of one (its code)."""
    return f"{error_format.name}.{item}"


def _refer(kind: str, error_format: ErrorFormat, item: str) -> Declaration:
    return {"$ref": f"#/components/{kind}/{component_name(error_format, item)}"}


def declare_body(schemas: Mapping[str, Declaration | type], example: Any) -> Declaration:
    """Return FastAPI's `openapi_extra` of a body: schemas by media type, an example in JSON."""
    content = {
        media_type: {"schema": inline_schema(schema) if isinstance(schema, type) else schema}
        for media_type, schema in schemas.items()
    }
    content[JSON]["example"] = example
    return {"requestBody": {"required": True, "content": content}}


def declare_answer(*binary: str, example: Any = None) -> Responses:
    """Return FastAPI's `responses` of a success: binary media types, an example in JSON."""
    content: Declaration = {media_type: {"schema": BINARY} for media_type in binary}
    if example:
        content[JSON] = {"example": example}
    return {200: {"content": content}}


def inline_schema(schema: type) -> Declaration:
    """Return a schema without references: they would not resolve where it is put."""
    document = TypeAdapter(schema).json_schema()
    definitions = document.pop("$defs", {})

    def resolve(node: Any) -> Any:
        match node:
            case {"$ref": reference}:
                return resolve(definitions[reference.rpartition("/")[2]])
            case dict():
                return {key: resolve(value) for key, value in node.items()}
            case list():
                return [resolve(one) for one in node]
        return node

    resolved: Declaration = resolve(document)
    return resolved
