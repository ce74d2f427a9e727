"""RGB image -> pixels: resize, crop the centre.

Value for value what transformers' `MobileNetV1ImageProcessorPil` makes of the same picture, up to
rescaling and normalization, which the engines do: pixels travel as uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.picture import Picture
from model.images.preprocessor_config import MAX_SIDE, Preprocessing, Size

MAX_RESIZED_PIXELS = MAX_SIDE**2
"""A resized picture never has more pixels than this: what would, is cropped first."""


def preprocess(
    picture: Image.Image | Picture, preprocessing: Preprocessing, side: int | None = None
) -> NDArray[np.uint8]:
    """Resize and crop a picture.

    Args:
        picture: an RGB image, or one decoded at a reduced size, which gets the size that it would
            get in full.
        preprocessing: the checkpoint's own sizes and filter.
        side: of a square input in pixels, instead of the checkpoint's own; what the picture is
            resized to keeps the checkpoint's proportion to it.

    Returns:
        Pixels of shape (height, width, 3), dtype uint8: `input_size`, or `side` both ways.
    """
    preprocessing = _for_side(preprocessing, side)
    if isinstance(picture, Image.Image):
        picture = Picture.whole(picture)
    image = _resize(picture, preprocessing) if preprocessing.do_resize else picture.image
    if preprocessing.do_center_crop:
        height, width = preprocessing.input_size
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))  # black outside the picture
    return np.asarray(image)


def needed_size(
    size: tuple[int, int], preprocessing: Preprocessing, side: int | None = None
) -> tuple[int, int] | None:
    """Tell what `preprocess` resizes the whole of a picture to, so that it may be decoded smaller.

    Args:
        size: its width and height, upright.
        preprocessing: as for `preprocess`.
        side: as for `preprocess`.

    Returns:
        Width and height; None where pixels are taken as they are, unresized or the nearest ones.
    """
    preprocessing = _for_side(preprocessing, side)
    if not preprocessing.do_resize or preprocessing.resample == Image.Resampling.NEAREST:
        return None
    return _resized_size(size, preprocessing.size)


def _for_side(preprocessing: Preprocessing, side: int | None) -> Preprocessing:
    if side is None or (side, side) == preprocessing.input_size:
        return preprocessing
    return preprocessing.with_side(side)


def _resize(picture: Picture, preprocessing: Preprocessing) -> Image.Image:
    if preprocessing.size.shortest_edge is not None:
        picture = _crop_extreme(picture, preprocessing.size.shortest_edge)
    new_size = _resized_size(picture.size, preprocessing.size)
    resample = Image.Resampling(preprocessing.resample)
    return picture.image.resize(new_size, resample, picture.box)


def _resized_size(size: tuple[int, int], wanted: Size) -> tuple[int, int]:
    short = wanted.shortest_edge
    if short is None:
        return wanted.width or 0, wanted.height or 0
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _crop_extreme(picture: Picture, short: int) -> Picture:
    """Cut the ends off a picture so long that resizing it would take more than the bound."""
    image = picture.image
    width, height = image.size
    longest = MAX_RESIZED_PIXELS * min(width, height) // short**2
    if max(width, height) <= longest:
        return picture
    # Cut as much from both ends: half a pixel would be half of `short` after resizing.
    longest = max(1, longest - (max(width, height) - longest) % 2)
    if width > height:
        left = (width - longest) // 2
        return Picture.whole(image.crop((left, 0, left + longest, height)))
    top = (height - longest) // 2
    return Picture.whole(image.crop((0, top, width, top + longest)))
