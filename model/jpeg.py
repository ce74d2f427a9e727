"""What Pillow leaves open about a JPEG: how many scans it may have, and decoding it smaller.

libjpeg decodes at 1/2, 1/4 or 1/8 of the size by leaving out each block's high frequencies. That
saves most of the time and memory; what is left to pay is the entropy coding, byte by byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.errors import ImageTooComplexError

if TYPE_CHECKING:
    from PIL import Image

    from model.picture import Box, Size

_MARKER, _START_OF_SCAN = 0xFF, 0xDA
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 500_000_000
"""Scans times pixels: every scan of a progressive JPEG visits every pixel, at about 1 ns each."""

_BIG_PIXELS = 1_000_000
"""Of a smaller picture there are few milliseconds to save, whatever it is resized to."""

_MARGIN = 2
"""Resizing by less would show what the left out frequencies did to the picture."""


def check_scans(data: bytes, header_bytes: int, image: Image.Image) -> int:
    """Count the scans of a JPEG.

    Args:
        data: the file.
        header_bytes: where its first scan's data begin; a thumbnail in the header does not count.
        image: as `Image.open` gives it.

    Raises:
        ImageTooComplexError: there are too many for its size.
    """
    # bytes.count() takes several times as long, which shows in the time of a big picture.
    values = np.frombuffer(data, np.uint8, offset=min(header_bytes, len(data)))
    scans = 1 + int(np.count_nonzero((values[:-1] == _MARKER) & (values[1:] == _START_OF_SCAN)))
    if scans > _MAX_SCANS or scans * image.width * image.height > _MAX_SCANNED_PIXELS:
        raise ImageTooComplexError(f"{scans} scans")
    return scans


def coefficients_held(image: Image.Image, scans: int) -> int:
    """Memory that libjpeg holds besides the picture, counted in Pillow's RGB pixels (4 bytes).

    Of a picture in several scans it holds every coefficient, 2 bytes each: 3 bytes a pixel with the
    usual subsampling, at most 8. Decoding at a reduced size saves none of it.
    """
    in_several = scans > 1 or "progressive" in image.info
    return 2 * image.width * image.height if in_several else 0


def reduce(image: Image.Image, needed_size: Size) -> Box:
    """Let a big JPEG be loaded at the smallest size that is still twice the needed one both ways.

    Args:
        image: as `Image.open` gives it; its size changes.
        needed_size: as the picture is stored.

    Returns:
        Where it will lie on the image.
    """
    width, height = needed_size
    whole = (0, 0, *image.size)
    if image.width * image.height < _BIG_PIXELS:
        return whole
    # draft() takes the smallest of libjpeg's sizes that is not below what it is asked for.
    drafted = image.draft(None, (_MARGIN * width, _MARGIN * height))
    return whole if drafted is None else drafted[1]
