"""Bodies of the OpenAI API: embeddings and models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic's wish before Python 3.12

_URI = {"type": "string", "description": "A data: URI with base64: `data:image/jpeg;base64,...`"}


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    raise PydanticCustomError("input", "must be a data: URI, or a list of them")


class EmbeddingsRequest(BaseModel):
    """One image or several; what else OpenAI's API knows of is ignored."""

    model_config = ConfigDict(frozen=True)

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
