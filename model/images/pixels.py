"""Resizes and crops an image to the network's input.

Value for value as transformers' `MobileNetV1ImageProcessorPil`, but for rescaling and
normalization, which the engines do: pixels travel as uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.decoded_image import DecodedImage, Size
from model.images.preprocessor_config import MAX_SIDE, Preprocessing

MAX_RESIZED_PIXELS = MAX_SIDE**2
"""Limit of a resized image: one that would have more pixels is cropped first."""


def preprocess(
    image: Image.Image | DecodedImage, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Resize and crop an image of mode RGB to pixels of shape (*input_size, 3), dtype uint8.

    One decoded at a reduced size is resized as the full one would be.
    """
    decoded = DecodedImage.whole(image) if isinstance(image, Image.Image) else image
    resized = _resize(decoded, preprocessing) if preprocessing.do_resize else decoded.image
    if preprocessing.do_center_crop:
        height, width = preprocessing.input_size
        left, top = (resized.width - width) // 2, (resized.height - height) // 2
        resized = resized.crop((left, top, left + width, top + height))  # black outside the image
    return np.asarray(resized)


def needed_size(size: Size, preprocessing: Preprocessing) -> Size | None:
    """The size that `preprocess` resizes a whole upright image to, which may be decoded smaller.

    None if pixels are used as they are, not resized or the nearest ones.
    """
    if not preprocessing.do_resize or preprocessing.resample == Image.Resampling.NEAREST:
        return None
    return _resized_size(size, preprocessing)


def _resize(decoded: DecodedImage, preprocessing: Preprocessing) -> Image.Image:
    if preprocessing.size.shortest_edge is not None:
        decoded = _crop_extreme(decoded, preprocessing.size.shortest_edge)
    new_size = _resized_size(decoded.size, preprocessing)
    resample = Image.Resampling(preprocessing.resample)
    return decoded.image.resize(new_size, resample, decoded.box)


def _resized_size(size: Size, preprocessing: Preprocessing) -> Size:
    short = preprocessing.size.shortest_edge
    if short is None:
        return preprocessing.size.width or 0, preprocessing.size.height or 0
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _crop_extreme(decoded: DecodedImage, short: int) -> DecodedImage:
    """Cut the ends off an image that would exceed the limit when resized."""
    width, height = decoded.image.size
    longest = MAX_RESIZED_PIXELS * min(width, height) // short**2
    if max(width, height) <= longest:
        return decoded
    # Cut as much from both ends: half a pixel would be half of `short` after resizing.
    longest = max(1, longest - (max(width, height) - longest) % 2)
    start = (max(width, height) - longest) // 2
    end = start + longest
    box = (start, 0, end, height) if width > height else (0, start, width, end)
    return DecodedImage.whole(decoded.image.crop(box))
