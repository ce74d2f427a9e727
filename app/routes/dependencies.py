"""What routes ask FastAPI for; async, because FastAPI gives a plain function a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from app.errors import InvalidParameterError
from app.lifecycle import Lifecycle
from app.service import Service


async def get_lifecycle(request: Request) -> Lifecycle:
    """The parts of this app."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


LifecycleDep = Annotated[Lifecycle, Depends(get_lifecycle)]


async def get_service(lifecycle: LifecycleDep) -> Service:
    """The loaded service.

    Raises:
        NotReadyError: it is not loaded yet.
    """
    return lifecycle.service


async def get_timeout(
    lifecycle: LifecycleDep,
    x_request_timeout_ms: Annotated[
        int | None, Header(ge=1, description="May lower this request's deadline.")
    ] = None,
) -> float:
    """Seconds that this request may take: the client may lower the service's own, never raise."""
    limit = lifecycle.settings.request_timeout_s
    return limit if x_request_timeout_ms is None else min(limit, x_request_timeout_ms / 1000)


async def refuse_repeated_parameters(request: Request) -> None:
    """A parameter given twice has no one meaning.

    Raises:
        InvalidParameterError: one is.
    """
    if len(request.query_params) != len(request.query_params.multi_items()):
        raise InvalidParameterError("A query parameter is given more than once.")


ServiceDep = Annotated[Service, Depends(get_service)]
TimeoutDep = Annotated[float, Depends(get_timeout)]
