"""Gives routes what they ask of the request and its application.

Dependencies are async, because FastAPI gives a plain function a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, get_type_hints

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from starlette.types import Receive, Scope, Send

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

    FastAPI documents these parameters, but its way from a route to an endpoint takes as long as all
    of the endpoint's own work. So the query is validated here, and FastAPI gets only what is rare:
    a timeout, or a mistake, which it explains.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        super().__init__(path, endpoint, **given)
        self._schema: type[BaseModel] = get_type_hints(endpoint)["query"]
        self._no_query: BaseModel = self._schema()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what the endpoint raises is answered by the application."""
        request = Request(scope, receive, send)
        query = self._read_query(request)
        if query is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        limit = get_parts(request.app).lifecycle.settings.request_timeout_s
        response: Response = await self.endpoint(request, limit, query)
        await response(scope, receive, send)

    def _read_query(self, request: Request) -> BaseModel | None:
        """Return a valid query; None leaves the request to FastAPI."""
        if _TIMEOUT_HEADER in request.headers:
            return None
        if not request.scope["query_string"]:
            return self._no_query
        try:
            return self._schema.model_validate(dict(request.query_params))
        except ValidationError:
            return None
