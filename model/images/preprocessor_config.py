"""A checkpoint's `preprocessor_config.json`, read as `transformers` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from model.json_file import Document

MAX_SIDE = 2000
"""Longest side in pixels that a checkpoint may resize or crop to."""

_PROCESSORS = (
    "MobileNetV1ImageProcessor",
    "MobileNetV1ImageProcessorFast",
    "MobileNetV1ImageProcessorPil",
    "MobileNetV1FeatureExtractor",
)
_STEPS = {  # and the keys that each needs
    "do_resize": ("size",),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}
_HARMLESS = (*_STEPS, "do_convert_rgb")  # every image is RGB by then
_REFUSED = ("auto_map", "crop_pct")  # code of the repository, and a step of other processors


def _repeat(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int | float) else value


_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Triple = Annotated[tuple[float, float, float], BeforeValidator(_repeat)]


class Size(BaseModel):
    """What to resize to: a short side, the other in proportion, or exactly both, in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shortest_edge: _Side | None = None
    height: _Side | None = None
    width: _Side | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_dump(exclude_none=True).keys() not in (
            {"shortest_edge"},
            {"height", "width"},
        ):
            raise ValueError("needs shortest_edge, or height and width")
        return self


class CropSize(BaseModel):
    """What to cut from the centre, in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: _Side = 224
    width: _Side = 224


class Preprocessing(Document):
    """Steps and constants between an image and the network; defaults are those of `transformers`.

    A crop that is larger than the image is padded with black.
    """

    do_resize: bool = True
    size: Size = Size(shortest_edge=256)
    resample: int = Field(int(Image.Resampling.BILINEAR), ge=0, le=5)
    do_center_crop: bool = True
    crop_size: CropSize = CropSize()
    do_rescale: bool = True
    rescale_factor: float = Field(1 / 255, gt=0)
    do_normalize: bool = True
    image_mean: _Triple = (0.5, 0.5, 0.5)
    image_std: _Triple = (0.5, 0.5, 0.5)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, document: Any) -> Any:
        """Normalize older spellings, and refuse steps that would be left undone."""
        if not isinstance(document, dict):
            return document
        document = _without_nulls(document)
        _check_steps(document)
        if isinstance(size := document.get("size"), int | list):
            square = document.get("default_to_square", False)
            is_short = isinstance(size, int) and not square
            document["size"] = {"shortest_edge": size} if is_short else _both_sides(size)
        if isinstance(crop_size := document.get("crop_size"), int | list):
            document["crop_size"] = _both_sides(crop_size)
        return document

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.image_std) <= 0:
            raise ValueError("image_std must be greater than 0")
        exact = self.do_resize and self.size.shortest_edge is None
        if not self.do_center_crop and not exact:
            raise ValueError("without do_center_crop, do_resize must be to a height and width")
        return self

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        if self.do_center_crop:
            return self.crop_size.height, self.crop_size.width
        return self.size.height or 0, self.size.width or 0

    def with_side(self, side: int | None) -> Preprocessing:
        """The same for a square input of this side, resizing in proportion; None keeps the size."""
        height, width = self.input_size
        if side is None or height == width == side:
            return self
        if self.size.shortest_edge is not None:
            size = Size(shortest_edge=_scale(self.size.shortest_edge, side / min(height, width)))
        else:
            size = Size(
                height=_scale(self.size.height or 0, side / height),
                width=_scale(self.size.width or 0, side / width),
            )
        crop_size = CropSize(height=side, width=side)
        return self.model_copy(update={"size": size, "crop_size": crop_size})

    def scale_and_offset(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Constants of shape (3,), float32, such that `pixels / scale - offset` is the input.

        Dividing rounds as transformers' rescaling does, for every uint8 value.
        """
        std = np.asarray(self.image_std) if self.do_normalize else np.ones(3)
        mean = np.asarray(self.image_mean) if self.do_normalize else np.zeros(3)
        scale = std / self.rescale_factor if self.do_rescale else std
        return scale.astype(np.float32), (mean / std).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a `preprocessor_config.json` that `transformers` reads too."""
        document: dict[str, Any] = {"image_processor_type": _PROCESSORS[0]}
        document |= self.model_dump(mode="json", exclude_none=True)
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, but refuse that of a value that a step needs."""
    document = document | {step: False for step in _STEPS if document.get(step, True) is None}
    for step, keys in _STEPS.items():
        for key in keys:
            if document.get(step, True) and document.get(key, key) is None:
                raise ValueError(f"{key} is null, but {step} needs it")
    return {key: value for key, value in document.items() if value is not None}


def _check_steps(document: dict[str, Any]) -> None:
    for key in ("image_processor_type", "feature_extractor_type"):
        if document.get(key, _PROCESSORS[0]) not in _PROCESSORS:
            raise ValueError(f"{key} {document[key]!r} is not MobileNet V1's")
    for key, value in document.items():
        if key in _REFUSED or (key.startswith("do_") and key not in _HARMLESS and value):
            raise ValueError(f"{key} cannot be honoured")


def _both_sides(size: Any) -> Any:
    """Spell an int or [height, width] as an object; validation refuses anything else."""
    pair = [size, size] if isinstance(size, int) else size
    return dict(zip(("height", "width"), pair, strict=True)) if len(pair) == 2 else size  # noqa: PLR2004  # of two sides


def _scale(side: int, ratio: float) -> int:
    return min(max(1, round(side * ratio)), MAX_SIDE)
