"""Describes a route's errors, and the bodies that it reads itself, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from app import errors
from app.api.problems import NATIVE, ErrorFormat
from app.errors import AppError

Declaration = dict[str, Any]
Responses = dict[int | str, Declaration]
Errors = tuple[type[AppError], ...]

JSON: Final = "application/json"
BINARY: Final[Declaration] = {"type": "string", "format": "binary"}

OF_EVERY_ROUTE: Final[Errors] = (
    errors.MalformedRequestError,
    errors.RequestTimeoutError,
    errors.UriTooLongError,
    errors.OverloadedError,
    errors.HeadersTooLargeError,
    AppError,
)
"""What the server refuses before routing, and the last resort."""
OF_A_MODEL: Final[Errors] = (errors.ModelNotFoundError, errors.NotReadyError)
"""Errors of a route that takes a model's name."""
OF_IMAGES: Final[Errors] = (
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
OF_UPLOADS: Final[Errors] = (
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
    by_status: dict[int, list[type[AppError]]] = {}
    for error in sorted({*OF_EVERY_ROUTE, *more}, key=lambda error: (error.status, error.code)):
        by_status.setdefault(error_format.status(error), []).append(error)
    responses: Responses = {
        status: declare_response(error_format, *of_status)
        for status, of_status in by_status.items()
    }
    if error_format is not NATIVE:
        schema = {"schema": _reference("schemas", schema_name(error_format))}
        other = {"description": "Any other error", "content": {error_format.media_type: schema}}
        responses["default"] = other
    return responses


def declare_response(error_format: ErrorFormat, *of_status: type[AppError]) -> Declaration:
    """Describe a response that is one of several errors, each with an example."""
    content = {
        "schema": _reference("schemas", schema_name(error_format)),
        "examples": {
            error.code: _reference("examples", example_name(error_format, error.code))
            for error in of_status
        },
    }
    headers = RETRY_AFTER if error_format.status(of_status[0]) in _BACK_SOON else None
    return {
        "description": ". ".join(error.title for error in of_status),
        "content": {error_format.media_type: content},
        **({"headers": headers} if headers else {}),
    }


def schema_name(error_format: ErrorFormat) -> str:
    """Name the schema of a protocol's errors among the document's components."""
    return f"{error_format.name}.error"


def example_name(error_format: ErrorFormat, code: str) -> str:
    """Name the example of an error among the document's components."""
    return f"{error_format.name}.{code}"


def _reference(kind: str, name: str) -> Declaration:
    return {"$ref": f"#/components/{kind}/{name}"}


def declare_body(
    schemas: dict[str, Declaration], example: Declaration | None = None
) -> Declaration:
    """Return FastAPI's `openapi_extra` of a body: schemas by media type, an example in JSON."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    if example is not None:
        content[JSON]["example"] = example
    return {"requestBody": {"required": True, "content": content}}


def declare_answer(example: Any) -> Responses:
    """Return FastAPI's `responses` of a success, with an example in JSON."""
    return {200: {"content": {JSON: {"example": example}}}}


def inline_schema(schema: type) -> Declaration:
    """Return a schema without references: they would not resolve where it is put."""
    document = TypeAdapter(schema).json_schema()
    definitions = document.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {key: resolve(value) for key, value in node.items()}

    resolved: Declaration = resolve(document)
    return resolved
