"""Request options and response bodies: the OpenAPI contract."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_TOP_K = 1001
MIN_SIZE, MAX_SIZE = 32, 512

_Model = Annotated[
    str | None, Field(description="Which of the served models; the first one by default.")
]
_Size = Annotated[
    int | None,
    Field(
        ge=MIN_SIZE,
        le=MAX_SIZE,
        description="Side in pixels of the square that the network sees; the checkpoint's own "
        "by default.",
    ),
]


class ClassifyOptions(BaseModel):
    """Query of the classify routes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(5, ge=1, le=MAX_TOP_K, description="How many classes to answer at most.")
    min_score: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Leave out classes that score less."
    )
    size: _Size = None
    model: _Model = None


class EmbedOptions(BaseModel):
    """Query of the embed routes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalize: bool = Field(default=False, description="Scale the embedding to unit length.")
    size: _Size = None
    model: _Model = None


class LabelsOptions(BaseModel):
    """Query of /labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: _Model = None


class ImageBody(BaseModel):
    """One image in JSON."""

    image: str = Field(description="base64, or a data: URI with base64")


class ImagesBody(BaseModel):
    """Several images in JSON."""

    images: list[str] = Field(description="base64, or data: URIs with base64", min_length=1)


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class Prediction(BaseModel):
    """One class and its softmax probability; `wnid` is its WordNet id."""

    class_id: int
    wnid: str | None
    label: str
    score: float


class Timing(BaseModel):
    """Where the time of a request went, in milliseconds."""

    decode: float
    queue: float
    inference: float
    total: float


class ClassifyResponse(BaseModel):
    """The best classes, best first."""

    model: str
    predictions: list[Prediction]
    timing_ms: Timing
    batch_size: int
    request_id: str


class EmbedResponse(BaseModel):
    """The features of an image."""

    model: str
    embedding: list[float]
    dim: int
    layer: str
    timing_ms: Timing
    batch_size: int
    request_id: str


class FailedImage(BaseModel):
    """An image of several that could not be read."""

    error: Problem


class ClassifyBatchResponse(BaseModel):
    """One result an image, in the order sent."""

    model: str
    results: list[ClassifyResponse | FailedImage]


class EmbedBatchResponse(BaseModel):
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


class ModelInfo(BaseModel):
    """One served model; `digest` is the sha256 of its weights."""

    name: str
    digest: str
    engine: str
    device: str
    input_size: int
    num_labels: int
    num_features: int


class InfoResponse(BaseModel):
    """What is served, and within which limits."""

    name: str
    version: str
    models: list[ModelInfo]
    limits: dict[str, Any]
    threads: int
    streams: int
    max_batch_size: int
    queue_capacity: float
    images_per_s: float


class ReadyResponse(BaseModel):
    """Whether requests are answered now; `checks` only with `?verbose`."""

    status: str
    checks: dict[str, bool] | None = None
