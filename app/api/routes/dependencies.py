"""Gives routes what they ask of the request and its application.

Dependencies are async, because FastAPI gives a plain function a thread.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from app.api.parts import get_parts
from app.inference.lifecycle import Lifecycle
from app.inference.service import Service
from app.telemetry.record import Record


async def get_lifecycle(request: Request) -> Lifecycle:
    """The lifecycle of this application."""
    return get_parts(request.app).lifecycle


LifecycleDep = Annotated[Lifecycle, Depends(get_lifecycle)]


def get_service(request: Request) -> Service:
    """The loaded service; a plain call, because each dependency costs as much as a log line.

    Raises:
        NotReadyError: the service is not loaded yet.
    """
    return get_parts(request.app).lifecycle.service


def get_record(request: Request) -> Record:
    """The record of this request."""
    record: Record = request.state.record
    return record


async def get_timeout(
    request: Request,
    x_request_timeout_ms: Annotated[
        Annotated[int, Field(ge=1)] | SkipJsonSchema[None],
        Header(description="May lower this request's deadline."),
    ] = None,
) -> float:
    """Seconds that this request may take: the client may lower the service's own, not raise it."""
    limit = get_parts(request.app).settings.request_timeout_s
    return limit if x_request_timeout_ms is None else min(limit, x_request_timeout_ms / 1000)


TimeoutDep = Annotated[float, Depends(get_timeout)]
