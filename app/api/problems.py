"""An error as bytes, in the shape of the protocol that asked, told by its path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse

from app.api.routes.open_inference.schemas import ErrorResponse as OpenInferenceError
from app.api.routes.schemas import Problem
from app.api.routes.schemas_huggingface import ErrorResponse as HuggingFaceError
from app.api.routes.schemas_openai import ErrorResponse as OpenAIError
from app.errors import AppError

MEDIA_TYPE = "application/problem+json"


def create_problem(error: AppError, request_id: str) -> Problem:
    """Describe an error as the native routes do."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }


def create_problem_response(error: AppError, request_id: str, path: str) -> JSONResponse:
    """Answer with an error: its status, its headers and its document.

    Args:
        error: what to tell of.
        request_id: of the request.
        path: that was asked for; its first segment tells the protocol.
    """
    shape = find_shape(path)
    return JSONResponse(
        shape.describe(error, request_id),
        status_code=shape.status(error),
        headers=error.headers,
        media_type=shape.media_type,
    )


def create_answer(
    error: AppError,
    request_id: str,
    path: str,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    last: bool,
) -> bytes:
    """The same as the bytes of an HTTP/1.1 response.

    Args:
        error: what to tell of.
        request_id: of the request, if it is one.
        path: that was asked for, as far as it is known.
        headers: more of them.
        last: whether the connection closes after it.
    """
    response = create_problem_response(error, request_id, path)
    fields = {
        **dict(headers),
        **dict(response.raw_headers),
        b"x-request-id": request_id.encode(),
    }
    if last:
        fields[b"connection"] = b"close"
    status = HTTPStatus(response.status_code)
    head = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    head += [name + b": " + value for name, value in fields.items()]
    return b"\r\n".join((*head, b"", bytes(response.body)))


@dataclass(frozen=True, slots=True)
class Shape:
    """How a protocol tells of errors.

    Attributes:
        name: of the protocol.
        schema: of the document.
        describe: the document, of an error and a request's id.
        statuses: those that it says otherwise.
    """

    name: str
    schema: type
    describe: Callable[[AppError, str], Mapping[str, Any]]
    media_type: str = "application/json"
    statuses: Mapping[int, int] = field(default_factory=dict)

    def status(self, error: AppError | type[AppError]) -> int:
        """What it answers an error with."""
        return self.statuses.get(error.status, error.status)


def find_shape(path: str) -> Shape:
    """The shape of errors at a path, told by its first segment."""
    return _PROTOCOLS.get(path.split("/", 2)[1] if path.startswith("/") else "", NATIVE)


def _describe_to_openai(error: AppError, _: str) -> OpenAIError:
    kind = "server_error" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    return {
        "error": {
            "message": error.detail,
            "type": kind or "invalid_request_error",
            "param": error.parameter,
            "code": error.code,
        }
    }


def _describe_to_huggingface(error: AppError, _: str) -> HuggingFaceError:
    return {"error": error.detail}


def _describe_to_open_inference(error: AppError, _: str) -> OpenInferenceError:
    return {"error": error.detail}


_INVALID: Final = {415: 400, 422: 400}
"""Protocols that know one status for whatever is wrong with a request."""
NATIVE: Final = Shape("native", Problem, create_problem, MEDIA_TYPE)
_PROTOCOLS: Final = {
    "models": Shape("huggingface", HuggingFaceError, _describe_to_huggingface),
    "v1": Shape("openai", OpenAIError, _describe_to_openai, statuses=_INVALID),
    "v2": Shape(
        "open_inference", OpenInferenceError, _describe_to_open_inference, statuses=_INVALID
    ),
}
SHAPES: Final = (NATIVE, *_PROTOCOLS.values())
