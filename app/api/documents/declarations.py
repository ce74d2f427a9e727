"""What the OpenAPI document says of a route's errors, and of a body that it reads itself."""

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
"""What the protocol class refuses before a route is looked for, and the last resort."""
OF_A_MODEL: Final[Errors] = (errors.ModelNotFoundError, errors.NotReadyError)
"""Of a route that asks for a model by its name."""
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
"""Of a route that takes images, in whatever body."""
OF_UPLOADS: Final[Errors] = (
    *OF_IMAGES,
    errors.MalformedMultipartError,
    errors.UnsupportedMediaTypeError,
    errors.MissingFileError,
    errors.TooManyFilesError,
)
"""Of a route that takes them as forms, too."""

RETRY_AFTER: Final[Declaration] = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
_BACK_SOON: Final = frozenset({429, 503})


def declare_errors(error_format: ErrorFormat, *more: type[AppError]) -> Responses:
    """FastAPI's `responses`: these errors and those of every route.

    A protocol of its own has the same format for any other status: without that, FastAPI would add
    a 422 of its own.
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
    """An answer that tells of one of several errors, each with an example."""
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
    """What the schema of a protocol's errors is called among the document's components."""
    return f"{error_format.name}.error"


def example_name(error_format: ErrorFormat, code: str) -> str:
    """What an error's example is called there."""
    return f"{error_format.name}.{code}"


def _reference(kind: str, name: str) -> Declaration:
    return {"$ref": f"#/components/{kind}/{name}"}


def declare_body(
    schemas: dict[str, Declaration], example: Declaration | None = None
) -> Declaration:
    """FastAPI's `openapi_extra`: a body's schema by media type, and an example in JSON."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    if example is not None:
        content[JSON]["example"] = example
    return {"requestBody": {"required": True, "content": content}}


def declare_answer(example: Any) -> Responses:
    """FastAPI's `responses`: an answer in JSON as it may look."""
    return {200: {"content": {JSON: {"example": example}}}}


def inline_schema(schema: type) -> Declaration:
    """A schema without references, which would point out of where it is put."""
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
