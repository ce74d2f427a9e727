"""What Pillow does not bound of a BMP: it decodes runs (RLE8 and RLE4) in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.errors import ImageTooComplexError, InvalidImageError

if TYPE_CHECKING:
    from model.images.picture import Size

_OLD_HEADER_BYTES = 12
_SIZED_BYTES = 26
_RUNS = (1, 2)  # compressions
_MAX_RUN_PIXELS = 1_000_000
_MAX_RUN_BYTES = 300_000


@dataclass(frozen=True, slots=True)
class Header:
    """What a BMP says of its pixels: width and height, and whether they are runs."""

    size: Size
    in_runs: bool


def read_header(data: bytes) -> Header:
    """Read the file header and what follows it.

    Raises:
        InvalidImageError: it is cut.
    """
    if len(data) < _SIZED_BYTES:
        raise InvalidImageError("no header")
    if int.from_bytes(data[14:18], "little") == _OLD_HEADER_BYTES:
        size = int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
        return Header(size, in_runs=False)
    height = abs(int.from_bytes(data[22:26], "little", signed=True))  # negative from the top
    size = int.from_bytes(data[18:22], "little"), height
    return Header(size, in_runs=int.from_bytes(data[30:34], "little") in _RUNS)


def check_runs(data: bytes) -> None:
    """Bound a picture in runs.

    Raises:
        ImageTooComplexError: it has more than a million pixels, or 300,000 bytes.
    """
    header = read_header(data)
    pixels = header.size[0] * header.size[1]
    if header.in_runs and (pixels > _MAX_RUN_PIXELS or len(data) > _MAX_RUN_BYTES):
        raise ImageTooComplexError("too many runs")
