"""An error as bytes: an RFC 9457 problem document."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from starlette.responses import JSONResponse

from app.errors import AppError
from app.schemas import Problem

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


def create_problem_response(error: AppError, request_id: str) -> JSONResponse:
    """Answer with an error: its status, its headers and its problem document."""
    return JSONResponse(
        create_problem(error, request_id),
        status_code=error.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


def create_last_answer(
    error: AppError, request_id: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The same as the bytes of an HTTP/1.1 response after which the connection closes.

    Args:
        error: what to tell of.
        request_id: of the request, if it is one.
        headers: more of them.
    """
    response = create_problem_response(error, request_id)
    fields = {
        **dict(headers),
        **dict(response.raw_headers),
        b"connection": b"close",
        b"x-request-id": request_id.encode(),
    }
    head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
    head += [name + b": " + value for name, value in fields.items()]
    return b"\r\n".join((*head, b"", bytes(response.body)))
