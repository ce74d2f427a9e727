"""JPEG: bounds its header and its scans, and decodes at a reduced size.

libjpeg decodes at 1/2, 1/4 or 1/8 of the size by leaving out each block's high frequencies. That
saves most of the time and memory; the entropy coding, byte by byte, remains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from model.errors import ImageTooComplexError, ImageTruncatedError, InvalidImageError
from model.images.formats.format import EncodedImage, Rate
from model.images.orientation import UPRIGHT, read_orientation, turn_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from model.images.decoded_image import Box, NeededSize

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_SEGMENT_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
"""Not one of those in a scan's data, which restart the decoder."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_EXIF = 0xE1, b"Exif\0\0"
_COMPONENTS, _SCAN_COMPONENTS = slice(9, 10), slice(4, 5)  # their number in a frame and in a scan
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
"""Reducing a smaller image saves few milliseconds, whatever it is resized to."""

_MARGIN = 2
"""Resizing by less would show the loss of the high frequencies."""

_RATE = Rate(0.3, 6, 20)
_SCAN_NS = 0.5
"""Of a pixel, for each of several scans."""
_SEVERAL_BYTE_NS = 23


@dataclass(frozen=True, slots=True)
class Jpeg(EncodedImage):
    """A JPEG file, whose data visit the pixels in so many scans.

    `head` leaves out padding, junk, and metadata but for the first EXIF.
    """

    name = "JPEG"
    signature = re.compile(rb"\xff\xd8")

    scans: int

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read up to the first scan, and count the scans."""
        segments, frame, has_exif, start = [data[:2]], b"", False, 0
        for code, start, end in _segments(data):
            segment = data[start:end]
            if code in _FRAMES:
                frame = segment
            is_exif = code == _EXIF[0] and segment.startswith(_EXIF[1], 4) and not has_exif
            has_exif = has_exif or is_exif
            if code != _START_OF_SCAN and (is_exif or code not in _METADATA):
                segments.append(segment)
        if sum(map(len, segments)) > _MAX_HEADER_BYTES:
            raise ImageTooComplexError(f"a header of more than {_MAX_HEADER_BYTES} bytes")
        if not frame:
            raise InvalidImageError("no frame")
        size = int.from_bytes(frame[7:9], "big"), int.from_bytes(frame[5:7], "big")
        progressive = frame[1] in _PROGRESSIVE
        # libjpeg stops after the first scan of a sequential JPEG that has every colour in it.
        in_one = not progressive and data[start : start + 5][_SCAN_COMPONENTS] >= frame[_COMPONENTS]
        scans = 1 if in_one else _count_scans(data, start)
        head = b"".join(segments)
        if not progressive and scans == 1:
            return cls(data, size, _RATE, scans, head=head, start=start)
        # In several scans libjpeg holds every coefficient, 2 bytes each, at any reduced size.
        coefficient_bytes = int(2 * _count_samples(frame) * size[0] * size[1])
        rate = Rate(_RATE.pixel + _SCAN_NS * scans, _SEVERAL_BYTE_NS)
        return cls(
            data, size, rate, scans, head=head, start=start, coefficient_bytes=coefficient_bytes
        )

    def check(self) -> None:
        """Bound the work of the scans."""
        scanned = self.scans * self.size[0] * self.size[1]
        if self.scans > _MAX_SCANS or scanned > _MAX_SCANNED_PIXELS:
            raise ImageTooComplexError(f"{self.scans} scans")

    @property
    def _is_small(self) -> bool:
        return self.size[0] * self.size[1] < _BIG_PIXELS

    def choose_scale(self, needed_size: NeededSize, orientation: int = UPRIGHT) -> int:
        """Keep at least twice the needed size both ways; leave what is below a megapixel."""
        upright = turn_size(self.size, orientation)
        needed = needed_size(upright)
        if needed is None or self._is_small:
            return 1
        most = min(side // (_MARGIN * least) for side, least in zip(upright, needed, strict=True))
        return max(scale for scale in (1, 2, 4, 8) if scale == 1 or scale <= most)

    def reduce(self, image: Image.Image, needed_size: NeededSize) -> Box:
        """Let libjpeg decode at the chosen scale."""
        whole = (0, 0, *image.size)
        if self._is_small:  # its EXIF need not be read yet
            return whole
        scale = self.choose_scale(needed_size, read_orientation(image))
        drafted = image.draft(None, (image.width // scale, image.height // scale))
        return whole if drafted is None else drafted[1]


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Code, start and end of each segment, up to the first scan and its marker."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position, position + _MAX_JUNK_BYTES)
        if marker is None:
            raise InvalidImageError("no scan")
        code, start, position = marker[1][0], marker.start(), marker.end()
        if code != _START_OF_SCAN and code not in _WITHOUT_LENGTH:
            position += _segment_bytes(data, position)
        yield code, start, position
        if code == _START_OF_SCAN:
            return
    raise ImageTooComplexError(f"more than {_MAX_SEGMENTS} segments")


def _segment_bytes(data: bytes, position: int) -> int:
    """The length that a segment declares."""
    length = int.from_bytes(data[position : position + 2], "big")
    if length < 2:  # noqa: PLR2004  # the length's own bytes
        raise InvalidImageError("a segment without a length")
    if position + length > len(data):
        raise ImageTruncatedError("the header ends too early")
    return length


def _count_samples(frame: bytes) -> float:
    """Samples for a pixel: each component has its share of the densest one, both ways."""
    factors = [(max(1, byte >> 4), max(1, byte & 15)) for byte in frame[_FACTORS]]
    most = [max((pair[way] for pair in factors), default=1) for way in (0, 1)]
    return sum(across * down for across, down in factors) / (most[0] * most[1])


def _count_scans(data: bytes, start: int) -> int:
    """Count the scans from the first one's marker to the image's end, as libjpeg reads them."""
    scans, position = 0, start
    for _ in range(_MAX_SEGMENTS):
        marker = _SEGMENT_MARKER.search(data, position)
        if marker is None or marker[1][0] == _END_OF_IMAGE:
            return scans
        code, position = marker[1][0], marker.end()
        scans += code == _START_OF_SCAN
        if code not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    raise ImageTooComplexError(f"more than {_MAX_SEGMENTS} segments")
