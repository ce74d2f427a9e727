"""Answers the Hugging Face inference API: POST /models/{model}, image classification."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from app.api.bodies.json_body import decode_base64, offload, parse_json
from app.api.bodies.responses import JSON, cache_header
from app.api.bodies.uploads import read_body
from app.api.documents.declarations import OF_IMAGES, declare_answer, declare_body, declare_errors
from app.api.documents.examples import HUGGING_FACE, SCORED
from app.api.problems import ErrorFormat, ErrorSentence, create_sentence
from app.api.routes.dependencies import TimeoutDep, get_record, get_service
from app.api.routing import Body, declare
from app.errors import EmptyFileError, NoClassifierError
from app.inference.answers import require_all
from app.inference.options import DEFAULT_TOP_K, MAX_TOP_K, ClassifyOptions

ERRORS: Final = ErrorFormat("huggingface", ErrorSentence, create_sentence, "models")

router = APIRouter(tags=["Hugging Face"])


class Parameters(BaseModel, extra="forbid"):
    """How to answer."""

    top_k: int | None = Field(
        None, ge=1, description="How many classes to answer at most; 5 by default."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="What turns the model's outputs into scores; softmax by default."
    )


class ClassificationRequest(BaseModel, extra="forbid"):
    """One image with parameters; an image without any is the body itself."""

    inputs: str = Field(description="The image: base64, or a data: URI with base64.")
    parameters: Parameters | None = None
    options: dict[str, Any] | None = Field(None, description="For the hub's own servers; ignored.")


class Score(TypedDict):
    """One class."""

    label: str
    score: float


@router.post(
    "/models/{model:path}",
    response_model=list[Score],
    responses={
        **declare_errors(ERRORS, *OF_IMAGES, NoClassifierError),
        **declare_answer(example=SCORED),
    },
    openapi_extra=declare_body(
        {JSON: ClassificationRequest, "image/*": bytes, "application/octet-stream": bytes},
        HUGGING_FACE,
    ),
)
@declare(body=Body.ONE_IMAGE)
async def classify(request: Request, timeout_s: TimeoutDep, model: str) -> Response:
    """Classify an image as Hugging Face's `image-classification` does."""
    service = get_service(request)
    classes = service.engine(model).checkpoint.config.num_labels
    body = await read_body(request)
    image, parameters = await offload(len(body), _parse, body)
    options = ClassifyOptions(
        top_k=min(parameters.top_k or DEFAULT_TOP_K, classes or 1, MAX_TOP_K),
        model=model,
        activation=parameters.function_to_apply or "softmax",
    )
    answers = await service.classify([image], options, timeout_s, get_record(request))
    (answer,) = require_all(answers)
    scores: list[Score] = [
        {"label": label.label, "score": score} for label, score in answer.content
    ]
    return Response(to_json(scores), media_type=JSON, headers=cache_header([answer.cache]))


def _parse(body: bytes) -> tuple[bytes, Parameters]:
    """Read image and parameters; by the body, because the client calls raw bytes JSON too."""
    parameters = Parameters()
    if body.lstrip()[:1] == b"{":
        document = parse_json(ClassificationRequest, body)
        body, parameters = decode_base64(document.inputs), document.parameters or parameters
    if not body:
        raise EmptyFileError
    return body, parameters
