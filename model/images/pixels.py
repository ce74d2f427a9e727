"""Resizes and crops an image to the network's input.

Value for value as transformers' `MobileNetV1ImageProcessorPil`, but for rescaling and
normalization, which the engines do: pixels travel as uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.decoded_image import DecodedImage
from model.images.preprocessor_config import MAX_SIDE, Preprocessing, Size

MAX_RESIZED_PIXELS = MAX_SIDE**2
"""Limit of a resized image: one that would have more pixels is cropped first."""


def preprocess(
    image: Image.Image | DecodedImage, preprocessing: Preprocessing, side: int | None = None
) -> NDArray[np.uint8]:
    """Resize and crop an image.

    Args:
        image: of mode RGB; one decoded at a reduced size is resized as the full one would be.
        preprocessing: the checkpoint's own sizes and filter.
        side: of a square input in pixels, instead of the checkpoint's own; the image is resized in
            the checkpoint's proportion to it.

    Returns:
        Pixels of shape (height, width, 3), dtype uint8: `input_size`, or `side` both ways.
    """
    preprocessing = _for_side(preprocessing, side)
    decoded = DecodedImage.whole(image) if isinstance(image, Image.Image) else image
    resized = _resize(decoded, preprocessing) if preprocessing.do_resize else decoded.image
    if preprocessing.do_center_crop:
        height, width = preprocessing.input_size
        left, top = (resized.width - width) // 2, (resized.height - height) // 2
        resized = resized.crop((left, top, left + width, top + height))  # black outside the image
    return np.asarray(resized)


def needed_size(
    size: tuple[int, int], preprocessing: Preprocessing, side: int | None = None
) -> tuple[int, int] | None:
    """The size that `preprocess` resizes a whole image to, which may be decoded smaller then.

    Args:
        size: width and height, upright.
        preprocessing: as for `preprocess`.
        side: as for `preprocess`.

    Returns:
        Width and height; None if pixels are used as they are, not resized or the nearest ones.
    """
    preprocessing = _for_side(preprocessing, side)
    if not preprocessing.do_resize or preprocessing.resample == Image.Resampling.NEAREST:
        return None
    return _resized_size(size, preprocessing.size)


def _for_side(preprocessing: Preprocessing, side: int | None) -> Preprocessing:
    if side is None or (side, side) == preprocessing.input_size:
        return preprocessing
    return preprocessing.with_side(side)


def _resize(decoded: DecodedImage, preprocessing: Preprocessing) -> Image.Image:
    if preprocessing.size.shortest_edge is not None:
        decoded = _crop_extreme(decoded, preprocessing.size.shortest_edge)
    new_size = _resized_size(decoded.size, preprocessing.size)
    resample = Image.Resampling(preprocessing.resample)
    return decoded.image.resize(new_size, resample, decoded.box)


def _resized_size(size: tuple[int, int], wanted: Size) -> tuple[int, int]:
    short = wanted.shortest_edge
    if short is None:
        return wanted.width or 0, wanted.height or 0
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _crop_extreme(decoded: DecodedImage, short: int) -> DecodedImage:
    """Cut the ends off an image that would exceed the limit when resized."""
    image = decoded.image
    width, height = image.size
    longest = MAX_RESIZED_PIXELS * min(width, height) // short**2
    if max(width, height) <= longest:
        return decoded
    # Cut as much from both ends: half a pixel would be half of `short` after resizing.
    longest = max(1, longest - (max(width, height) - longest) % 2)
    if width > height:
        left = (width - longest) // 2
        return DecodedImage.whole(image.crop((left, 0, left + longest, height)))
    top = (height - longest) // 2
    return DecodedImage.whole(image.crop((0, top, width, top + longest)))
