"""Describes what is served: GET /labels and /info."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from app.api.bodies.responses import JSON, create_etag
from app.api.documents.declarations import OF_A_MODEL, declare_errors
from app.api.problems import NATIVE
from app.api.routes.dependencies import LifecycleDep, get_service
from app.api.routes.schemas import LabelsQuery, LabelsResponse
from app.errors import InvalidParameterError, NotReadyError
from app.inference.information import InfoResponse, describe

router = APIRouter(tags=["Service"])


@router.get(
    "/labels",
    response_model=LabelsResponse,
    responses={
        304: {"description": "Not modified"},
        **declare_errors(NATIVE, *OF_A_MODEL, InvalidParameterError),
    },
)
async def labels(request: Request, query: Annotated[LabelsQuery, Query()]) -> Response:
    """All classes of a model."""
    checkpoint = get_service(request).engine(query.model).checkpoint
    content = to_json({"model": checkpoint.name, "labels": checkpoint.labels})
    etag = create_etag(content)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=JSON, headers=headers)


@router.get("/info", responses=declare_errors(NATIVE, NotReadyError))
async def info(lifecycle: LifecycleDep) -> InfoResponse:
    """What is served, and within which limits."""
    return describe(lifecycle)
