"""RGB image -> pixels: resize, crop the centre.

Value for value what transformers' `MobileNetV1ImageProcessorPil` makes of the same picture, up to
rescaling and normalization, which the engines do: pixels travel as uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocessing import MAX_SIDE, Preprocessing

MAX_RESIZED_PIXELS = MAX_SIDE**2
"""A resized picture never has more pixels than this: what would, is cropped first."""


def preprocess(
    image: Image.Image, preprocessing: Preprocessing, side: int | None = None
) -> NDArray[np.uint8]:
    """Resize and crop an RGB image.

    Args:
        image: of mode RGB.
        preprocessing: the checkpoint's own sizes and filter.
        side: of a square input in pixels, instead of the checkpoint's own; what the picture is
            resized to keeps the checkpoint's proportion to it.

    Returns:
        Pixels of shape (height, width, 3), dtype uint8: `input_size`, or `side` both ways.
    """
    if side is not None and (side, side) != preprocessing.input_size:
        preprocessing = preprocessing.with_side(side)
    if preprocessing.do_resize:
        image = _resize(image, preprocessing)
    if preprocessing.do_center_crop:
        height, width = preprocessing.input_size
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))  # black outside the picture
    return np.asarray(image)


def _resize(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size = preprocessing.size
    if size.shortest_edge is None:
        new_size = (size.width or 0, size.height or 0)
    else:
        image = _crop_extreme(image, size.shortest_edge)
        new_size = _resized_size(image.size, size.shortest_edge)
    return image.resize(new_size, Image.Resampling(preprocessing.resample))


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
