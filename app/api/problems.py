"""Turns errors into responses, in the error format of the protocol that was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from app.errors import AppError


class Problem(TypedDict):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class ErrorSentence(TypedDict):
    """What went wrong, in a sentence."""

    error: str


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How a protocol describes errors.

    Attributes:
        describe: makes the document, of that schema, of an error and a request's id.
        segment: first segment of the protocol's paths; None: all that no other protocol has.
        statuses: the protocol's own status for some of ours.
    """

    name: str
    schema: type
    describe: Callable[[AppError, str], Mapping[str, Any]]
    segment: str | None
    media_type: str = "application/json"
    statuses: Mapping[int, int] = field(default_factory=dict)

    def status(self, error: AppError | type[AppError]) -> int:
        """The status that an error is answered with."""
        return self.statuses.get(error.status, error.status)


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


def create_sentence(error: AppError, _: str) -> ErrorSentence:
    """Describe an error as protocols do that have one sentence for it."""
    return {"error": error.detail}


NATIVE: Final = ErrorFormat("native", Problem, create_problem, None, "application/problem+json")
ONE_STATUS: Final = {415: 400, 422: 400}
"""Of protocols that have one status for whatever is wrong with a request."""


def create_error_response(
    error: AppError, request_id: str, error_format: ErrorFormat
) -> JSONResponse:
    """Answer with an error: its status, its headers and its document."""
    return JSONResponse(
        error_format.describe(error, request_id),
        status_code=error_format.status(error),
        headers=error.headers,
        media_type=error_format.media_type,
    )


def write_error_response(
    error: AppError,
    request_id: str,
    error_format: ErrorFormat,
    headers: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """Write the same as an HTTP/1.1 response after which the connection closes."""
    response = create_error_response(error, request_id, error_format)
    fields = {
        **dict(headers),
        **dict(response.raw_headers),
        b"x-request-id": request_id.encode(),
        b"connection": b"close",
    }
    status = HTTPStatus(response.status_code)
    head = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    head += [name + b": " + value for name, value in fields.items()]
    return b"\r\n".join((*head, b"", bytes(response.body)))
