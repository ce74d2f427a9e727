"""Queries and response bodies of the native routes.

A response body is a TypedDict where it is made for every request: validating it would only take
time.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import BaseModel, Field, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from app.api.problems import Problem
from app.inference.answers import Predictions
from app.inference.options import (
    DEFAULT_TOP_K,
    MAX_SIZE,
    MAX_TOP_K,
    MIN_SIZE,
    ClassifyOptions,
    Dtype,
    EmbedOptions,
    parse_layers,
)
from model.network.config import OUTPUT_STRIDES, POOLED
from model.network.features import Pooling

_LAYER = f"({POOLED}|[0-9]|1[0-3]|Conv2d_0|Conv2d_([1-9]|1[0-3])_pointwise)"

_Model = Annotated[
    str | SkipJsonSchema[None],
    Field(description="Which of the served models; the first one by default."),
]
_Size = Annotated[
    Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)] | SkipJsonSchema[None],
    Field(
        description="Side in pixels of the square that the network sees; the checkpoint's own "
        "by default.",
    ),
]


class ClassifyQuery(BaseModel, extra="forbid"):
    """Query of the classify routes."""

    top_k: int = Field(
        DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="How many classes to answer at most."
    )
    min_score: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Leave out classes that score less."
    )
    size: _Size = None
    model: _Model = None

    def options(self) -> ClassifyOptions:
        """Return the core's options; a `top_k` by default may be cut to the model's classes."""
        top_k = self.top_k if "top_k" in self.model_fields_set else None
        return ClassifyOptions(top_k, self.min_score, self.size, self.model)


class EmbedQuery(BaseModel, extra="forbid"):
    """Query of the embed routes."""

    layer: str = Field(
        POOLED,
        max_length=400,
        description="`pooled`, or pointwise end points by name or number, with commas: `5,11,13`.",
        json_schema_extra={"pattern": f"^{_LAYER}(,{_LAYER})*$"},
    )
    pooling: Pooling = Field(
        "global",
        description="Of a layer's map: `global` average; `avg7`: 7x7 average, stride 2; `none`.",
    )
    normalize: bool = Field(default=False, description="Scale to unit length along the channels.")
    output_stride: Literal[32, 16, 8] = Field(
        32, description="Input side over the last map's; less than 32 dilates the last layers."
    )
    dtype: Dtype = Field("float32", description="Of binary answers; JSON has float32 only.")
    size: _Size = None
    model: _Model = None

    @field_validator("output_stride", mode="before")
    @classmethod
    def _read_number(cls, value: object) -> object:
        return next((known for known in OUTPUT_STRIDES if str(known) == value), value)

    @field_validator("layer")
    @classmethod
    def _check_layers(cls, value: str) -> str:
        try:
            parse_layers(value)
        except ValueError as error:
            raise PydanticCustomError("layer", str(error)) from error
        return value

    def options(self) -> EmbedOptions:
        """The core's options."""
        return EmbedOptions(
            parse_layers(self.layer),
            self.pooling,
            self.normalize,
            self.output_stride,
            self.dtype,
            self.size,
            self.model,
        )


class LabelsQuery(BaseModel, extra="forbid"):
    """Query of /labels."""

    model: _Model = None


class Prediction(TypedDict):
    """One class and its softmax probability; `wnid` is its WordNet id."""

    class_id: int
    wnid: str | None
    label: str
    score: float


def create_predictions(predictions: Predictions) -> list[Prediction]:
    """Describe the best classes of an image, best first."""
    return [
        {"class_id": one.class_id, "wnid": one.wnid, "label": one.label, "score": score}
        for one, score in predictions
    ]


class Timing(TypedDict):
    """Where the time of a request went, in milliseconds."""

    decode: float
    queue: float
    inference: float
    total: float


class ClassifyResponse(TypedDict):
    """The best classes, best first."""

    model: str
    predictions: list[Prediction]
    timing_ms: Timing
    batch_size: int
    request_id: str


class EmbedResponse(TypedDict):
    """The features of an image: `embedding`, or `embeddings` of several layers."""

    model: str
    embedding: NotRequired[list[float]]
    embeddings: NotRequired[dict[str, list[float]]]
    dim: NotRequired[int]
    layer: NotRequired[str]
    timing_ms: Timing
    batch_size: int
    request_id: str


class FailedImage(TypedDict):
    """An image of several that could not be read."""

    error: Problem


class ClassifyBatchResponse(TypedDict):
    """One result an image, in the order sent."""

    model: str
    results: list[ClassifyResponse | FailedImage]


class EmbedBatchResponse(TypedDict):
    """One result an image, in the order sent."""

    model: str
    results: list[EmbedResponse | FailedImage]


class LabelBody(BaseModel):
    """One class of a model."""

    class_id: int
    wnid: str | None
    label: str


class LabelsResponse(BaseModel):
    """All classes of a model, in the order of their ids."""

    model: str
    labels: list[LabelBody]


class ReadyResponse(BaseModel):
    """Whether requests are answered now; `checks` only with `?verbose`."""

    status: str
    checks: dict[str, bool] | None = None
