"""What Pillow leaves open about a JPEG: what its header may hold, its scans, decoding it smaller.

libjpeg decodes at 1/2, 1/4 or 1/8 of the size by leaving out each block's high frequencies. That
saves most of the time and memory; what is left to pay is the entropy coding, byte by byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import ImageTooComplexError, ImageTruncatedError, InvalidImageError

if TYPE_CHECKING:
    from PIL import Image

    from model.images.picture import Box, Size

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_BYTE, _START_OF_SCAN = 0xFF, 0xDA
_BLOCK_BYTES = 1 << 18
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_EXIF = 0xE1, b"Exif\0\0"
_COMPONENTS, _SCAN_COMPONENTS = slice(9, 10), slice(4, 5)  # how many, in a frame and in a scan
_FACTORS = slice(11, None, 3)  # of each component in a frame: a digit across and one down
_METADATA = frozenset({*range(0xE1, 0xF0), 0xFE}) - {0xEE}
"""Application segments and comments, but for JFIF's and Adobe's, which tell the colours."""

_MAX_SEGMENTS = 1_000
_MAX_HEADER_BYTES = 1 << 18
_MAX_JUNK_BYTES = 1 << 16  # before a segment
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 500_000_000
"""Scans times pixels: every scan of a progressive JPEG visits every pixel, at about 1 ns each."""

_BIG_PIXELS = 1_000_000
"""Of a smaller picture there are few milliseconds to save, whatever it is resized to."""

_MARGIN = 2
"""Resizing by less would show what the left out frequencies did to the picture."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a JPEG says before its pixels.

    Attributes:
        size: width and height, as stored.
        scans: how often its data visit the pixels.
        in_several: whether its colours or precision come in more than one scan.
        samples: of all its components for a pixel; the usual subsampling has 1.5.
        head: what stands before the first scan, without metadata but for the first EXIF, and
            without padding and junk: Pillow walks those in Python, byte by byte.
        start: where the first scan begins.
    """

    size: Size
    scans: int
    in_several: bool
    samples: float
    head: bytes
    start: int


def read_header(data: bytes) -> Header:
    """Read a JPEG up to its first scan, and count its scans.

    Raises:
        ImageTooComplexError: its header is too long.
        ImageTruncatedError: it ends within its header.
        InvalidImageError: it has no frame or no scan.
    """
    segments = [data[:2]]
    size, progressive, has_exif, position, frame = None, False, False, 2, b""
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position, position + _MAX_JUNK_BYTES)
        if marker is None:
            raise InvalidImageError("no scan")
        code, start = marker[1][0], marker.start()
        if code == _START_OF_SCAN:
            break
        position = marker.end()
        if code not in _WITHOUT_LENGTH:
            position += _segment_bytes(data, position)
        segment = data[start:position]
        if code in _FRAMES:
            size = int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
            progressive, frame = code in _PROGRESSIVE, segment
        is_exif = code == _EXIF[0] and segment.startswith(_EXIF[1], 4) and not has_exif
        has_exif = has_exif or is_exif
        if is_exif or code not in _METADATA:
            segments.append(segment)
    else:
        raise ImageTooComplexError(f"more than {_MAX_SEGMENTS} segments")
    if sum(map(len, segments)) > _MAX_HEADER_BYTES:
        raise ImageTooComplexError(f"a header of more than {_MAX_HEADER_BYTES} bytes")
    if size is None or 0 in size:
        raise InvalidImageError("no frame, or one without an area")
    # libjpeg stops after the first scan of a sequential JPEG that has every colour in it.
    in_one = not progressive and data[start : start + 5][_SCAN_COMPONENTS] >= frame[_COMPONENTS]
    scans = 1 if in_one else _count_scans(data, start)
    several, head = progressive or scans > 1, b"".join(segments)
    return Header(size, scans, several, _count_samples(frame), head, start)


def check_scans(header: Header) -> None:
    """Bound the work that its scans are.

    Raises:
        ImageTooComplexError: there are too many for its size.
    """
    width, height = header.size
    if header.scans > _MAX_SCANS or header.scans * width * height > _MAX_SCANNED_PIXELS:
        raise ImageTooComplexError(f"{header.scans} scans")


def coefficient_bytes(header: Header) -> int:
    """Memory that libjpeg holds besides the picture, in bytes.

    Of a picture in several scans it holds every coefficient, two bytes each. Decoding at a reduced
    size saves none of it.
    """
    return int(2 * header.samples * header.size[0] * header.size[1]) if header.in_several else 0


def choose_scale(size: Size, needed_size: Size) -> int:
    """Choose 8, 4, 2 or 1: what a big JPEG's sides can be divided by and be twice the needed ones.

    Args:
        size: of the picture, as stored.
        needed_size: likewise.
    """
    if size[0] * size[1] < _BIG_PIXELS:
        return 1
    most = min(side // (_MARGIN * needed) for side, needed in zip(size, needed_size, strict=True))
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or scale <= most)


def reduce(image: Image.Image, needed_size: Size) -> Box:
    """Let a big JPEG be loaded at the smallest size that is still twice the needed one both ways.

    Args:
        image: as `Image.open` gives it; its size changes.
        needed_size: as the picture is stored.

    Returns:
        Where it will lie on the image.
    """
    scale = choose_scale(image.size, needed_size)
    wanted = image.width // scale, image.height // scale
    drafted = image.draft(None, wanted) if scale > 1 else None
    return (0, 0, *image.size) if drafted is None else drafted[1]


def _count_samples(frame: bytes) -> float:
    """Samples for a pixel: each component has its share of the one with most, both ways."""
    factors = [(max(1, byte >> 4), max(1, byte & 15)) for byte in frame[_FACTORS]]
    most = [max((pair[way] for pair in factors), default=1) for way in (0, 1)]
    return sum(across * down for across, down in factors) / (most[0] * most[1])


def _segment_bytes(data: bytes, position: int) -> int:
    """The length that a segment declares for itself."""
    length = int.from_bytes(data[position : position + 2], "big")
    if length < 2:  # noqa: PLR2004  # bytes, the length's own
        raise InvalidImageError("a segment without a length")
    if position + length > len(data):
        raise ImageTruncatedError("the header ends too early")
    return length


def _count_scans(data: bytes, start: int) -> int:
    # bytes.count() takes several times as long, which shows in the time of a big picture; in one
    # piece the comparisons would take three times the file's memory.
    values, scans = np.frombuffer(data, np.uint8), 0
    for begin in range(start, len(data), _BLOCK_BYTES):
        block = values[begin : begin + _BLOCK_BYTES + 1]
        marked = (block[:-1] == _MARKER_BYTE) & (block[1:] == _START_OF_SCAN)
        scans += int(np.count_nonzero(marked))
    return scans
