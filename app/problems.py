"""An error as bytes: an RFC 9457 problem document."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from app.errors import AppError

MEDIA_TYPE = "application/problem+json"


def create_problem(error: AppError, request_id: str) -> dict[str, Any]:
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
