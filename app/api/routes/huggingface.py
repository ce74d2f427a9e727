"""The Hugging Face inference API: POST /models/{model}, image classification."""

from __future__ import annotations

from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from app.api.bodies.json_body import decode_base64, offload, parse_json
from app.api.bodies.uploads import read_body
from app.api.documents.declarations import (
    BINARY,
    JSON,
    OF_IMAGES,
    declare_answer,
    declare_body,
    declare_errors,
    inline_schema,
)
from app.api.documents.examples import HUGGING_FACE, SCORED
from app.api.routes.dependencies import TimeoutDep, get_service
from app.api.routes.native import cache_header
from app.api.routes.schemas_huggingface import ClassificationRequest, Parameters, Score
from app.errors import EmptyFileError, NoClassifierError
from app.inference.options import DEFAULT_TOP_K, MAX_TOP_K, ClassifyOptions

PATH: Final = "/models/{model:path}"

router = APIRouter(tags=["Hugging Face"])


@router.post(
    PATH,
    response_model=list[Score],
    responses={
        **declare_errors(PATH, *OF_IMAGES, NoClassifierError),
        **declare_answer(SCORED),
    },
    openapi_extra=declare_body(
        {
            JSON: inline_schema(ClassificationRequest),
            "image/*": BINARY,
            "application/octet-stream": BINARY,
        },
        HUGGING_FACE,
    ),
)
async def classify(request: Request, timeout_s: TimeoutDep, model: str) -> Response:
    """Classify an image as Hugging Face's `image-classification` does."""
    service = get_service(request)
    classes = service.engine(model).checkpoint.config.num_labels
    body = await read_body(request)
    image, parameters = await offload(len(body), partial(_parse, body))
    options = ClassifyOptions(
        top_k=min(parameters.top_k or DEFAULT_TOP_K, classes or 1, MAX_TOP_K),
        model=model,
        activation=parameters.function_to_apply or "softmax",
    )
    answer = await service.classify(image, options, timeout_s, request.state.record)
    scores: list[Score] = [
        {"label": label.label, "score": score} for label, score in answer.predictions
    ]
    return Response(to_json(scores), media_type=JSON, headers=cache_header([answer.cache]))


def _parse(body: bytes) -> tuple[bytes, Parameters]:
    """The image and how to answer; told by the body, because the client calls bytes JSON too."""
    if body.lstrip()[:1] == b"{":
        document = parse_json(ClassificationRequest, body)
        body, parameters = decode_base64(document.inputs), document.parameters or Parameters()
    else:
        parameters = Parameters()
    if not body:
        raise EmptyFileError
    return body, parameters
