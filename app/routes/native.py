"""The service's own routes: POST /classify and /embed, and their batch forms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app import schemas
from app.errors import AppError, NotAcceptableError
from app.problems import create_problem
from app.routes.dependencies import (
    ServiceDep,
    TimeoutDep,
    refuse_repeated_parameters,
)
from app.schemas import ClassifyOptions, EmbedOptions
from app.service import Classification, Embedding, Stages
from app.uploads import read_image, read_images

MAX_FILES = 64
_NPY = "application/x-npy"
_JSON = "application/json"
_OFFERED = {"*/*": _JSON, "application/*": _JSON, _JSON: _JSON, _NPY: _NPY}

_Answer = TypeVar("_Answer", Classification, Embedding)
_Response = TypeVar("_Response", schemas.ClassifyResponse, schemas.EmbedResponse)

router = APIRouter(dependencies=[Depends(refuse_repeated_parameters)])


def _image_body(*, many: bool) -> dict[str, Any]:
    """How a body carries images, in OpenAPI's words: routes read it themselves, as it arrives."""
    binary = {"type": "string", "format": "binary"}
    file: dict[str, Any] = {"type": "array", "items": binary} if many else binary
    form = {"type": "object", "required": ["file"], "properties": {"file": file}}
    name = "images" if many else "image"
    text = {"type": "string", "description": "base64, or a data: URI"}
    value: dict[str, Any] = {"type": "array", "items": text} if many else text
    document = {"type": "object", "required": [name], "properties": {name: value}}
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": form},
        _JSON: {"schema": document},
    }
    if not many:
        content |= {kind: {"schema": binary} for kind in ("image/*", "application/octet-stream")}
    return {"requestBody": {"required": True, "content": content}}


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "A problem document",
        "content": {"application/problem+json": {"schema": schemas.Problem.model_json_schema()}},
    }
    for status in (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)
}


@router.post(
    "/classify",
    response_model=schemas.ClassifyResponse,
    responses=_PROBLEMS,
    openapi_extra=_image_body(many=False),
)
async def classify(
    request: Request,
    service: ServiceDep,
    timeout_s: TimeoutDep,
    options: Annotated[ClassifyOptions, Query()],
) -> Response:
    """Name what is in an image: its most probable classes."""
    image = await read_image(request)
    answer = await service.classify(image, options, timeout_s)
    body = _classify_response(request, answer)
    return _json(body, _server_timing(body.timing_ms))


@router.post(
    "/embed",
    response_model=schemas.EmbedResponse,
    responses={
        **_PROBLEMS,
        200: {"content": {_NPY: {"schema": {"type": "string", "format": "binary"}}}},
    },
    openapi_extra=_image_body(many=False),
)
async def embed(
    request: Request,
    service: ServiceDep,
    timeout_s: TimeoutDep,
    options: Annotated[EmbedOptions, Query()],
) -> Response:
    """Turn an image into features, to compare with those of others."""
    media_type = _negotiate(request.headers.get("accept", "*/*"))
    image = await read_image(request)
    answer = await service.embed(image, options, timeout_s)
    if media_type == _JSON:
        body = _embed_response(request, answer)
        return _json(body, _server_timing(body.timing_ms))
    buffer = BytesIO()
    np.save(buffer, answer.values)
    headers = _server_timing(_timing(request, answer.stages))
    return Response(buffer.getvalue(), media_type=_NPY, headers=headers)


@router.post(
    "/classify/batch",
    response_model=schemas.ClassifyBatchResponse,
    responses=_PROBLEMS,
    openapi_extra=_image_body(many=True),
)
async def classify_batch(
    request: Request,
    service: ServiceDep,
    timeout_s: TimeoutDep,
    options: Annotated[ClassifyOptions, Query()],
) -> Response:
    """Classify up to 64 images; one that cannot be read fails alone."""
    images = await read_images(request, MAX_FILES)
    answers = await service.classify_many(images, options, timeout_s)
    results = _results(request, answers, _classify_response)
    model = service.engine(options.model).checkpoint.name
    return _json(schemas.ClassifyBatchResponse(model=model, results=results))


@router.post(
    "/embed/batch",
    response_model=schemas.EmbedBatchResponse,
    responses=_PROBLEMS,
    openapi_extra=_image_body(many=True),
)
async def embed_batch(
    request: Request,
    service: ServiceDep,
    timeout_s: TimeoutDep,
    options: Annotated[EmbedOptions, Query()],
) -> Response:
    """Embed up to 64 images; one that cannot be read fails alone."""
    images = await read_images(request, MAX_FILES)
    answers = await service.embed_many(images, options, timeout_s)
    results = _results(request, answers, _embed_response)
    model = service.engine(options.model).checkpoint.name
    return _json(schemas.EmbedBatchResponse(model=model, results=results))


def _json(body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), media_type=_JSON, headers=headers)


def _negotiate(accept: str) -> str:
    """The media type to answer with: the first that the client prefers and we have.

    Raises:
        NotAcceptableError: there is none.
    """
    ranges = []
    for part in accept.split(","):
        media_range, _, parameters = part.partition(";")
        ranges.append((media_range.strip().lower(), _quality(parameters)))
    for media_range, quality in sorted(ranges, key=lambda one: -one[1]):
        if quality > 0 and media_range in _OFFERED:
            return _OFFERED[media_range]
    raise NotAcceptableError


def _quality(parameters: str) -> float:
    try:
        return float(parameters.strip().removeprefix("q=") or 1)
    except ValueError:
        return 1.0


def _timing(request: Request, stages: Stages) -> schemas.Timing:
    total_s = time.perf_counter() - request.state.started
    return schemas.Timing(
        decode=_ms(stages.decode_s),
        queue=_ms(stages.queue_s),
        inference=_ms(stages.inference_s),
        total=_ms(total_s),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _server_timing(timing: schemas.Timing) -> dict[str, str]:
    stages = timing.model_dump().items()
    return {"Server-Timing": ", ".join(f"{stage};dur={ms}" for stage, ms in stages)}


def _classify_response(request: Request, answer: Classification) -> schemas.ClassifyResponse:
    predictions = [
        schemas.Prediction(class_id=label.class_id, wnid=label.wnid, label=label.label, score=score)
        for label, score in answer.predictions
    ]
    return schemas.ClassifyResponse(
        model=answer.model,
        predictions=predictions,
        timing_ms=_timing(request, answer.stages),
        batch_size=answer.batch_size,
        request_id=request.state.request_id,
    )


def _embed_response(request: Request, answer: Embedding) -> schemas.EmbedResponse:
    return schemas.EmbedResponse(
        model=answer.model,
        embedding=answer.values.tolist(),
        dim=len(answer.values),
        layer=answer.layer,
        timing_ms=_timing(request, answer.stages),
        batch_size=answer.batch_size,
        request_id=request.state.request_id,
    )


def _results(
    request: Request,
    answers: Sequence[_Answer | AppError],
    respond: Callable[[Request, _Answer], _Response],
) -> list[_Response | schemas.FailedImage]:
    """One result an image, in order.

    Raises:
        AppError: of the first image, when none was answered.
    """
    if all(isinstance(answer, AppError) for answer in answers):
        raise next(answer for answer in answers if isinstance(answer, AppError))
    return [
        _failed(request, answer) if isinstance(answer, AppError) else respond(request, answer)
        for answer in answers
    ]


def _failed(request: Request, error: AppError) -> schemas.FailedImage:
    problem = create_problem(error, request.state.request_id)
    return schemas.FailedImage(error=schemas.Problem(**problem))
