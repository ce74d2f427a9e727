"""Answers the service's own routes: POST /classify and /embed, and their batch forms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from app.api.bodies.responses import JSON, NPY, NPZ, cache_header, encode_arrays, negotiate
from app.api.bodies.uploads import read_image, read_images
from app.api.documents.declarations import (
    BINARY,
    OF_UPLOADS,
    declare_answer,
    declare_body,
    declare_errors,
)
from app.api.documents.examples import CLASSIFIED, ONE_IMAGE, TWO_IMAGES
from app.api.problems import NATIVE, create_problem
from app.api.routes import schemas
from app.api.routes.dependencies import QueryRoute, TimeoutDep, get_record, get_service
from app.api.routes.schemas import ClassifyQuery, EmbedQuery
from app.api.routing import Body, declare
from app.errors import AppError, NoClassifierError, NotAcceptableError, OutputTooLargeError
from app.inference.answers import Answer, Arrays, Predictions, require_all
from app.inference.options import EmbedOptions
from app.telemetry.record import Record

_T = TypeVar("_T")
ClassifyDep = Annotated[ClassifyQuery, Query()]
EmbedDep = Annotated[EmbedQuery, Query()]

router = APIRouter(route_class=QueryRoute, tags=["Images"])


def _image_body(*, many: bool) -> dict[str, Any]:
    """Describe in OpenAPI how a body carries images: routes read it themselves, as it arrives."""
    file: dict[str, Any] = {"type": "array", "items": BINARY} if many else BINARY
    form = {"type": "object", "required": ["file"], "properties": {"file": file}}
    name = "images" if many else "image"
    text = {"type": "string", "description": "base64, or a data: URI"}
    value: dict[str, Any] = {"type": "array", "items": text} if many else text
    document = {"type": "object", "required": [name], "properties": {name: value}}
    raw = () if many else ("image/*", "application/octet-stream")
    return declare_body(
        {JSON: document, "multipart/form-data": form, **dict.fromkeys(raw, BINARY)},
        TWO_IMAGES if many else ONE_IMAGE,
    )


_PROBLEMS = declare_errors(NATIVE, *OF_UPLOADS, NoClassifierError)
_EMBED_PROBLEMS = declare_errors(NATIVE, *OF_UPLOADS, NotAcceptableError, OutputTooLargeError)


@router.post(
    "/classify",
    response_model=schemas.ClassifyResponse,
    responses={**_PROBLEMS, **declare_answer(example=CLASSIFIED)},
    openapi_extra=_image_body(many=False),
)
@declare(body=Body.ONE_IMAGE)
async def classify(request: Request, timeout_s: TimeoutDep, query: ClassifyDep) -> Response:
    """Name what is in an image: its most probable classes."""
    service, record = get_service(request), get_record(request)
    image = await read_image(request)
    (answer,) = require_all(await service.classify([image], query.options(), timeout_s, record))
    return _respond_one(answer, _classes, record)


@router.post(
    "/embed",
    response_model=schemas.EmbedResponse,
    responses={**_EMBED_PROBLEMS, **declare_answer(NPY, NPZ)},
    openapi_extra=_image_body(many=False),
)
@declare(body=Body.ONE_IMAGE)
async def embed(request: Request, timeout_s: TimeoutDep, query: EmbedDep) -> Response:
    """Turn an image into features, to compare with those of others."""
    service, record = get_service(request), get_record(request)
    options = query.options()
    shapes = service.embedding_shapes(options)
    media_type = negotiate(request.headers.get("accept", "*/*"), _offers(options, shapes))
    image = await read_image(request)
    (answer,) = require_all(await service.embed([image], options, timeout_s, record))
    if media_type == JSON:
        return _respond_one(answer, _features, record)
    content = encode_arrays(answer.content, media_type, options.dtype)
    headers = _headers(answer, _timing(answer, record))
    return Response(content, media_type=media_type, headers=headers)


@router.post(
    "/classify/batch",
    response_model=schemas.ClassifyBatchResponse,
    responses=_PROBLEMS,
    openapi_extra=_image_body(many=True),
)
@declare(body=Body.MANY_IMAGES)
async def classify_batch(request: Request, timeout_s: TimeoutDep, query: ClassifyDep) -> Response:
    """Classify up to 64 images; one that cannot be read fails alone."""
    service, record = get_service(request), get_record(request)
    options = query.options()
    images = await read_images(request)
    answers = await service.classify(images, options, timeout_s, record)
    model = service.engine(options.model).checkpoint.name
    return await asyncio.to_thread(_respond_many, model, answers, _classes, record)


@router.post(
    "/embed/batch",
    response_model=schemas.EmbedBatchResponse,
    responses=_EMBED_PROBLEMS,
    openapi_extra=_image_body(many=True),
)
@declare(body=Body.MANY_IMAGES)
async def embed_batch(request: Request, timeout_s: TimeoutDep, query: EmbedDep) -> Response:
    """Embed up to 64 images; one that cannot be read fails alone."""
    service, record = get_service(request), get_record(request)
    options = query.options()
    if JSON not in _offers(options, service.embedding_shapes(options)):
        raise NotAcceptableError("Many images are answered in JSON, which carries only vectors.")
    images = await read_images(request)
    service.embedding_shapes(options, len(images))
    answers = await service.embed(images, options, timeout_s, record)
    model = service.engine(options.model).checkpoint.name
    return await asyncio.to_thread(_respond_many, model, answers, _features, record)


def _offers(options: EmbedOptions, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """List the media types that can carry such an embedding, the preferred one first."""
    only_vectors = all(len(shape) == 1 for shape in shapes.values())
    offers = [JSON] if only_vectors and options.dtype == "float32" else []
    return [*offers, NPY, NPZ] if len(shapes) == 1 else [*offers, NPZ]


def _result(
    answer: Answer[_T], describe: Callable[[_T], dict[str, Any]], record: Record
) -> dict[str, Any]:
    return {
        "model": answer.model,
        **describe(answer.content),
        "timing_ms": _timing(answer, record),
        "batch_size": answer.batch_size,
        "request_id": record.request_id,
    }


def _classes(predictions: Predictions) -> dict[str, Any]:
    return {"predictions": schemas.create_predictions(predictions)}


def _features(layers: Arrays) -> dict[str, Any]:
    vectors = {layer: values.tolist() for layer, values in layers.items()}
    if len(vectors) > 1:
        return {"embeddings": vectors}
    ((layer, vector),) = vectors.items()
    return {"embedding": vector, "dim": len(vector), "layer": layer}


def _timing(answer: Answer[Any], record: Record) -> dict[str, float]:
    seconds = {
        "decode": answer.stages.decode_s,
        "queue": answer.stages.queue_s,
        "inference": answer.stages.inference_s,
        "total": time.perf_counter() - record.started,
    }
    return {stage: round(spent * 1000, 3) for stage, spent in seconds.items()}


def _headers(answer: Answer[Any], timing: Mapping[str, float]) -> dict[str, str]:
    timings = ", ".join(f"{stage};dur={ms}" for stage, ms in timing.items())
    return {"Server-Timing": timings, **cache_header([answer.cache])}


def _respond_one(
    answer: Answer[_T], describe: Callable[[_T], dict[str, Any]], record: Record
) -> Response:
    result = _result(answer, describe, record)
    headers = _headers(answer, result["timing_ms"])
    return Response(to_json(result), media_type=JSON, headers=headers)


def _respond_many(
    model: str,
    answers: Sequence[Answer[_T] | AppError],
    describe: Callable[[_T], dict[str, Any]],
    record: Record,
) -> Response:
    """Write one result an image, in order, or raise the first error if there is nothing else.

    Takes long for 64 answers of 1001 classes.
    """
    failed = [answer for answer in answers if isinstance(answer, AppError)]
    if len(failed) == len(answers):
        raise failed[0]
    results = [
        {"error": create_problem(answer, record.request_id)}
        if isinstance(answer, AppError)
        else _result(answer, describe, record)
        for answer in answers
    ]
    return Response(to_json({"model": model, "results": results}), media_type=JSON)
