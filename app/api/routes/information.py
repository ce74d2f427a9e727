"""GET /labels and /info: what is served."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app import __version__
from app.api.documents.declarations import OF_A_MODEL, declare_errors
from app.api.routes import schemas
from app.api.routes.dependencies import LifecycleDep, get_service
from app.api.routes.native import MAX_FILES
from app.api.routes.schemas import LabelsOptions
from app.errors import InvalidParameterError, NotReadyError
from app.inference.lifecycle import Lifecycle
from model.engines.base import Engine

router = APIRouter(tags=["Service"])


@router.get(
    "/labels",
    response_model=schemas.LabelsResponse,
    responses={
        304: {"description": "Not modified"},
        **declare_errors("/labels", *OF_A_MODEL, InvalidParameterError),
    },
)
async def labels(request: Request, options: Annotated[LabelsOptions, Query()]) -> Response:
    """All classes of a model."""
    checkpoint = get_service(request).engine(options.model).checkpoint
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


@router.get("/info", responses=declare_errors("/info", NotReadyError))
async def info(lifecycle: LifecycleDep) -> schemas.InfoResponse:
    """What is served, and within which limits."""
    return describe(lifecycle)


def describe(lifecycle: Lifecycle) -> schemas.InfoResponse:
    """What is loaded, and within which limits.

    Raises:
        NotReadyError: nothing is yet.
    """
    service = lifecycle.service
    settings = lifecycle.settings
    models = [
        schemas.ModelInfo(
            name=name,
            digest=engine.checkpoint.digest,
            engine=engine.name,
            device=engine.device,
            input_size=_input_size(engine),
            num_labels=engine.checkpoint.config.num_labels,
            num_features=engine.checkpoint.config.num_features,
        )
        for name, engine in service.engines.items()
    ]
    limits = ("max_body_mib", "max_batch_body_mib", "max_output_mib", "max_pixels_mp", "max_side")
    timeouts = ("request_timeout_s", "body_timeout_s", "queue_ms")
    return schemas.InfoResponse(
        name="mobilenet-serve",
        version=__version__,
        models=models,
        limits={
            "max_files": MAX_FILES,
            **{name: getattr(settings, name) for name in limits + timeouts},
        },
        jpeg_scaled_decode=settings.jpeg_scaled_decode,
        threads=lifecycle.threads,
        streams=service.batcher.streams,
        max_batch_size=service.batcher.max_batch_size,
        queue_capacity=lifecycle.queue_capacity,
        images_per_s=lifecycle.speed.images_per_s,
    )


def _input_size(engine: Engine) -> int | tuple[int, int]:
    height, width = engine.checkpoint.preprocessing.input_size
    return height if height == width else (height, width)
