"""What routes ask FastAPI for; async, because FastAPI gives a plain function a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from app.lifecycle import Lifecycle
from app.service import Service


async def get_lifecycle(request: Request) -> Lifecycle:
    """The parts of this app."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


LifecycleDep = Annotated[Lifecycle, Depends(get_lifecycle)]


def get_service(request: Request) -> Service:
    """The loaded service; a plain call, because each dependency costs as much as a log line.

    Raises:
        NotReadyError: it is not loaded yet.
    """
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle.service


async def get_timeout(
    request: Request,
    x_request_timeout_ms: Annotated[
        Annotated[int, Field(ge=1)] | SkipJsonSchema[None],
        Header(description="May lower this request's deadline."),
    ] = None,
) -> float:
    """Seconds that this request may take: the client may lower the service's own, never raise."""
    limit: float = request.app.state.lifecycle.settings.request_timeout_s
    return limit if x_request_timeout_ms is None else min(limit, x_request_timeout_ms / 1000)


TimeoutDep = Annotated[float, Depends(get_timeout)]
