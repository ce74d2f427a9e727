"""Bodies of the Hugging Face inference API, image classification."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic's wish before Python 3.12


class Parameters(BaseModel):
    """How to answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int | None = Field(
        None, ge=1, description="How many classes to answer at most; 5 by default."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="What turns the model's outputs into scores; softmax by default."
    )


class ClassificationRequest(BaseModel):
    """One image with parameters; an image without any is the body itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: str = Field(description="The image: base64, or a data: URI with base64.")
    parameters: Parameters | None = None
    options: dict[str, Any] | None = Field(None, description="For the hub's own servers; ignored.")


class Score(TypedDict):
    """One class."""

    label: str
    score: float


class ErrorResponse(TypedDict):
    """What went wrong, in a sentence."""

    error: str
