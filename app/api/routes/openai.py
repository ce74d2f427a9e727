"""Answers the OpenAI API: POST /v1/embeddings of images, GET /v1/models."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, FailFast, Field, WithJsonSchema
from pydantic_core import PydanticCustomError, to_json
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from app import errors
from app.api.bodies.json_body import decode_base64, offload, parse_json
from app.api.bodies.responses import JSON, cache_header
from app.api.bodies.uploads import read_body
from app.api.documents.declarations import OF_A_MODEL, OF_IMAGES, declare_body, declare_errors
from app.api.documents.examples import OPENAI
from app.api.problems import ONE_STATUS, ErrorFormat
from app.api.routes.dependencies import TimeoutDep, get_record, get_service
from app.api.routing import Body, declare
from app.inference.answers import require_all
from app.inference.options import MAX_FILES, EmbedOptions
from app.inference.service import Service
from model.network.config import POOLED

_URI: Final = {
    "type": "string",
    "description": "A data: URI with base64: `data:image/jpeg;base64,...`",
}

router = APIRouter(tags=["OpenAI"])


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    raise PydanticCustomError("input", "must be a data: URI, or a list of them")


class EmbeddingsRequest(BaseModel):
    """One image or several; what else OpenAI's API knows of is ignored."""

    input: Annotated[
        list[str],
        FailFast(),
        BeforeValidator(_as_list),
        WithJsonSchema({"anyOf": [_URI, {"type": "array", "items": _URI, "minItems": 1}]}),
    ]
    model: str = Field(description="One of the served models.")
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="`base64`: the float32 numbers, little-endian."
    )
    dimensions: int | None = Field(None, description="Only the model's own number of features.")


class EmbeddingItem(TypedDict):
    """The embedding of one image, of unit length."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(TypedDict):
    """Images have no tokens: zeros."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(TypedDict):
    """One embedding an image, in the order sent."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class Model(TypedDict):
    """One served model; `created` is when it was loaded, in seconds since 1970."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsResponse(TypedDict):
    """Every served model, the default one first."""

    object: Literal["list"]
    data: list[Model]


class ErrorBody(TypedDict):
    """What went wrong; `param` is the field that is wrong, where that is known."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(TypedDict):
    """An error as OpenAI's clients read it."""

    error: ErrorBody


def _create_error(error: errors.AppError, _: str) -> ErrorResponse:
    kind = "invalid_request_error"
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    return {
        "error": {
            "message": error.detail,
            "type": kind,
            "param": error.parameter,
            "code": error.code,
        }
    }


ERRORS: Final = ErrorFormat("openai", ErrorResponse, _create_error, "v1", statuses=ONE_STATUS)


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingsResponse,
    responses=declare_errors(
        ERRORS,
        *OF_IMAGES,
        errors.OutputTooLargeError,
        errors.TooManyFilesError,
        errors.UrlInputDisabledError,
    ),
    openapi_extra=declare_body({JSON: EmbeddingsRequest}, OPENAI),
)
@declare(body=Body.MANY_IMAGES)
async def embeddings(request: Request, timeout_s: TimeoutDep) -> Response:
    """Embed images as OpenAI's API does texts: vectors of unit length."""
    service = get_service(request)
    body = await read_body(request)
    wanted, images = await offload(len(body), _parse, body)
    features = service.engine(wanted.model).checkpoint.config.num_features
    if wanted.dimensions not in {None, features}:
        raise errors.InvalidParameterError(f"dimensions: This model has {features}.", "dimensions")
    options = EmbedOptions(model=wanted.model, normalize=True)
    service.embedding_shapes(options, len(images))
    answers = await service.embed(images, options, timeout_s, get_record(request))
    embeddings = require_all(answers, [_place(index) for index in range(len(images))])
    vectors = [one.content[POOLED] for one in embeddings]
    content = await offload(sum(vector.nbytes for vector in vectors), _write, wanted, vectors)
    headers = cache_header([one.cache for one in embeddings])
    return Response(content, media_type=JSON, headers=headers)


@router.get("/v1/models", responses=declare_errors(ERRORS, errors.NotReadyError))
async def models(request: Request) -> ModelsResponse:
    """Every served model."""
    service = get_service(request)
    return {"object": "list", "data": [_describe(service, name) for name in service.engines]}


@router.get("/v1/models/{model:path}", responses=declare_errors(ERRORS, *OF_A_MODEL))
async def retrieve_model(request: Request, model: str) -> Model:
    """One served model."""
    service = get_service(request)
    return _describe(service, service.engine(model).checkpoint.name)


def _describe(service: Service, name: str) -> Model:
    created = service.loaded_at
    return {"id": name, "object": "model", "created": created, "owned_by": "mobilenet-serve"}


def _parse(body: bytes) -> tuple[EmbeddingsRequest, list[bytes]]:
    wanted = parse_json(EmbeddingsRequest, body)
    if len(wanted.input) > MAX_FILES:
        raise errors.TooManyFilesError(f"input: A request has at most {MAX_FILES} images.")
    return wanted, [_read(uri, _place(index)) for index, uri in enumerate(wanted.input)]


def _place(index: int) -> str:
    return f"input[{index}]"


def _read(uri: str, place: str) -> bytes:
    if uri.startswith("data:"):
        return decode_base64(uri, place)
    if uri.lower().startswith(("http:", "https:")):
        raise errors.UrlInputDisabledError().at(place)
    raise errors.InvalidParameterError(f"{place}: Images are data: URIs with base64.", "input")


def _write(wanted: EmbeddingsRequest, vectors: Sequence[NDArray[np.float32]]) -> bytes:
    def encode(vector: NDArray[np.float32]) -> list[float] | str:
        if wanted.encoding_format == "base64":
            return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
        numbers: list[float] = vector.tolist()
        return numbers

    response: EmbeddingsResponse = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": wanted.model,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    return to_json(response)
