"""Tells what is served: GET /labels and /info."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.documents.declarations import OF_A_MODEL, declare_errors
from app.api.problems import NATIVE
from app.api.routes import schemas
from app.api.routes.dependencies import LifecycleDep, get_service
from app.api.routes.schemas import LabelsQuery
from app.errors import InvalidParameterError, NotReadyError
from app.inference.information import InfoResponse, describe

router = APIRouter(tags=["Service"])


@router.get(
    "/labels",
    response_model=schemas.LabelsResponse,
    responses={
        304: {"description": "Not modified"},
        **declare_errors(NATIVE, *OF_A_MODEL, InvalidParameterError),
    },
)
async def labels(request: Request, query: Annotated[LabelsQuery, Query()]) -> Response:
    """All classes of a model."""
    checkpoint = get_service(request).engine(query.model).checkpoint
    rows = [
        schemas.LabelBody(class_id=label.class_id, wnid=label.wnid, label=label.label)
        for label in checkpoint.labels
    ]
    content = schemas.LabelsResponse(model=checkpoint.name, labels=rows).model_dump_json()
    etag = f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match", "").strip() == "*" or etag in request.headers.get(
        "if-none-match", ""
    ):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


@router.get("/info", responses=declare_errors(NATIVE, NotReadyError))
async def info(lifecycle: LifecycleDep) -> InfoResponse:
    """What is served, and within which limits."""
    return describe(lifecycle)
