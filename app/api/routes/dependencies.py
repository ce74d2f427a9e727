"""Gives routes what they ask of the request and its application.

Dependencies are async, because FastAPI gives a plain function a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, get_type_hints

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
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
    limit = get_parts(request.app).lifecycle.settings.request_timeout_s
    return limit if x_request_timeout_ms is None else min(limit, x_request_timeout_ms / 1000)


TimeoutDep = Annotated[float, Depends(get_timeout)]
_TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"


class QueryRoute(APIRoute):
    """A route of `(request, timeout_s: TimeoutDep, query: Annotated[..., Query()])`.

    FastAPI documents these parameters, but solving them takes 0.16 ms: a quarter of what a cached
    answer costs. So the query is validated here, and FastAPI solves only what is rare: a timeout,
    or a mistake, which it explains.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, preceded by the fast one."""
        solve = super().get_route_handler()
        endpoint = self.endpoint
        schema: type[BaseModel] = get_type_hints(endpoint)["query"]

        async def handle(request: Request) -> Response:
            if _TIMEOUT_HEADER in request.headers:
                return await solve(request)
            try:
                query = schema.model_validate(dict(request.query_params))
            except ValidationError:
                return await solve(request)
            response: Response = await endpoint(request, await get_timeout(request), query)
            return response

        return handle
