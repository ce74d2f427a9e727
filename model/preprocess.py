"""RGB image -> pixels: resize the short side, crop the centre.

Value for value what transformers' `MobileNetV1ImageProcessorPil` makes of the same picture, up to
rescaling and normalization, which the engines do: pixels travel as uint8.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.config import MIN_IMAGE_SIDE
from model.document import Document

MAX_RESIZED_PIXELS = 4_000_000
"""A resized picture never has more pixels than this: what would, is cropped first."""

_Side = Annotated[int, Field(ge=MIN_IMAGE_SIDE, le=2000)]
_Triple = tuple[float, float, float]


class _ShortestEdge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    shortest_edge: _Side = 256


class _CropSize(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    height: _Side = 224
    width: _Side = 224


class Preprocessing(Document):
    """What `preprocessor_config.json` says; defaults are those of `transformers`."""

    do_resize: Literal[True] = True
    size: _ShortestEdge = _ShortestEdge()
    resample: int = Field(int(Image.Resampling.BILINEAR), ge=0, le=5)
    do_center_crop: Literal[True] = True
    crop_size: _CropSize = _CropSize()
    do_rescale: Literal[True] = True
    rescale_factor: float = Field(1 / 255, gt=0)
    do_normalize: Literal[True] = True
    image_mean: _Triple = (0.5, 0.5, 0.5)
    image_std: _Triple = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.crop_size.height != self.crop_size.width:
            raise ValueError("crop_size must be square")
        if self.crop_side > self.size.shortest_edge:
            raise ValueError("crop_size must not be larger than size")
        if min(self.image_std) <= 0:
            raise ValueError("image_std must be greater than 0")
        return self

    @property
    def crop_side(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.crop_size.width

    def scale_and_offset(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Constants, each of shape (3,), with which `pixels / scale - offset` is the input.

        Written as a division, which rounds as transformers' rescaling does for every uint8 value.
        """
        std = np.asarray(self.image_std)
        scale = std / self.rescale_factor
        offset = np.asarray(self.image_mean) / std
        return scale.astype(np.float32), offset.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a `preprocessor_config.json` that `transformers` reads too."""
        document: dict[str, Any] = {"image_processor_type": "MobileNetV1ImageProcessor"}
        document |= self.model_dump(mode="json")
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def preprocess(
    image: Image.Image, preprocessing: Preprocessing, side: int | None = None
) -> NDArray[np.uint8]:
    """Resize and crop an RGB image.

    Args:
        image: of mode RGB.
        preprocessing: the checkpoint's own sizes and filter.
        side: the crop's side in pixels instead of the checkpoint's; the short side of the resized
            picture keeps the checkpoint's proportion to it.

    Returns:
        Pixels of shape (side, side, 3), dtype uint8.
    """
    crop = preprocessing.crop_side
    short = preprocessing.size.shortest_edge
    if side is not None and side != crop:
        short = round(side * short / crop)
        crop = side
    image = _crop_extreme(image, short)
    size = _resized_size(image.size, short)
    resized = image.resize(size, Image.Resampling(preprocessing.resample))
    left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


def _resized_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _crop_extreme(image: Image.Image, short: int) -> Image.Image:
    """Cut the ends off a picture so long that resizing it would take more than the bound."""
    width, height = image.size
    longest = MAX_RESIZED_PIXELS * min(width, height) // short**2
    if max(width, height) <= longest:
        return image
    # Cut as much from both ends: half a pixel would be half of `short` after resizing.
    longest = max(1, longest - (max(width, height) - longest) % 2)
    if width > height:
        left = (width - longest) // 2
        return image.crop((left, 0, left + longest, height))
    top = (height - longest) // 2
    return image.crop((0, top, width, top + longest))
