"""Untrusted bytes -> an RGB image.

The order is: what the bytes begin like, what the cheap screen says, what the header says, and only
then pixels. An image with transparency is laid on white. Colour profiles are ignored.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from model.errors import (
    AbandonedError,
    ImageTooLargeError,
    ImageTruncatedError,
    InvalidImageError,
    ModelError,
    UnsupportedImageFormatError,
)
from model.images.budget import PIXEL_BYTES, MemoryBudget, count_bytes
from model.images.formats import bmp, gif, jpeg, png, webp
from model.images.orientation import read_orientation, turn, turn_box, turn_size
from model.images.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.images.picture import Box, Size

    NeededSize = Callable[[Size], Size | None]
    """What an upright picture of a size will be resized to; None: its pixels count as they are."""

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
)
_BACKGROUND = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a picture may be, and how many bytes of memory decoding may take at once."""

    max_pixels: int = 25_000_000
    max_side: int = 16_384
    max_bytes_at_once: int = 25_000_000 * PIXEL_BYTES


class Decoder:
    """Decodes pictures in any number of threads, within one budget of memory for all of them."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.limits = limits
        self._budget = MemoryBudget(limits.max_bytes_at_once)

    def decode(self, data: bytes) -> Image.Image:
        """Decode the first frame of a JPEG, PNG, WebP, GIF or BMP, upright, as RGB.

        Raises:
            UnsupportedImageFormatError: the bytes begin like none of them.
            ImageTooLargeError: more pixels or a longer side than the limits allow.
            ImageTooComplexError: too many scans for its size.
            ImageTruncatedError: it ends before its last row.
            InvalidImageError: anything else that is wrong with it.
        """
        with self.open(data) as picture:
            return picture.image

    def decode_reduced(self, data: bytes, needed_size: NeededSize) -> Picture:
        """Do as `decode`, but a big JPEG at 1/2, 1/4 or 1/8 of its size where that is enough.

        It is where it leaves at least twice the needed size, both ways. A JPEG is big from a
        megapixel on.
        """
        with self.open(data, needed_size) as picture:
            return picture

    @contextmanager
    def open(
        self,
        data: bytes,
        needed_size: NeededSize = lambda _: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[Picture]:
        """Do as `decode_reduced`, and hold the picture's part of the budget until it is left.

        Args:
            data: the file.
            needed_size: see there.
            is_wanted: asked after waiting for the budget, before any pixel is decoded.

        Raises:
            AbandonedError: it is not wanted any more.
        """
        with ExitStack() as room:
            yield self._decode_or_tell(data, needed_size, is_wanted, room)

    def _decode_or_tell(
        self,
        data: bytes,
        needed_size: NeededSize,
        is_wanted: Callable[[], bool],
        room: ExitStack,
    ) -> Picture:
        image_format = sniff(data)
        if image_format is None:
            raise UnsupportedImageFormatError("no allowed format")
        try:
            return self._decode(data, image_format, needed_size, is_wanted, room)
        except (ModelError, MemoryError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLargeError("more pixels than Pillow allows") from error
        except Exception as error:  # what Pillow raises on hostile bytes has no common base
            # Pillow has no exception of its own for this, only its sentence.
            if isinstance(error, OSError) and "truncated" in str(error).lower():
                raise ImageTruncatedError("the data end too early") from error
            raise InvalidImageError(type(error).__name__) from error

    def _decode(
        self,
        data: bytes,
        image_format: str,
        needed_size: NeededSize,
        is_wanted: Callable[[], bool],
        room: ExitStack,
    ) -> Picture:
        screened, coefficients = self._screen(data, image_format)
        with _open(screened, image_format) as image:
            full_size = image.size
            self._check_size(full_size)
            box = _reduce(image, needed_size) if image_format == "JPEG" else (0, 0, *full_size)
            taken = count_bytes(image, len(data), coefficients)
            room.enter_context(self._budget.reserve(taken))
            if not is_wanted():
                raise AbandonedError("nobody waits for it any more")
            image.load()
            if image_format == "PNG":
                png.check_rows(data, image)
            orientation = read_orientation(image)  # of a PNG it may stand after the pixels
            size = image.size
            return Picture(
                _to_rgb(_replace(image, turn(image, orientation))),
                turn_size(full_size, orientation),
                turn_box(box, size, orientation),
            )

    def _screen(self, data: bytes, image_format: str) -> tuple[bytes, int]:
        """Bound the work that Pillow will have; what to give it, and bytes of coefficients."""
        match image_format:
            case "JPEG":
                frame = jpeg.read_header(data)
                self._check_size(frame.size)
                jpeg.check_scans(frame)
                return _join(frame.head, data, frame.start), jpeg.coefficient_bytes(frame)
            case "GIF":
                screen = gif.read_header(data)
                self._check_size(screen.size)
                return _join(screen.head, data, screen.start), 0
            case "WEBP":
                webp.check_length(data)
                self._check_size(webp.read_header(data).size)
            case "PNG":
                self._check_size(png.read_header(data).size)
                png.check_chunks(data)
                png.check_text(data)
            case "BMP":
                self._check_size(bmp.read_header(data).size)
                bmp.check_runs(data)
        return data, 0

    def _check_size(self, size: Size) -> None:
        width, height = size
        if width * height > self.limits.max_pixels or max(width, height) > self.limits.max_side:
            raise ImageTooLargeError(f"{width}x{height}")


def sniff(data: bytes) -> str | None:
    """Name the allowed format that the bytes begin like: JPEG, PNG, GIF, BMP, WEBP, or None."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        return "WEBP"
    return None


def _open(data: bytes, image_format: str) -> Image.Image:
    if image_format == "WEBP":
        return webp.StillImage(BytesIO(data))
    return Image.open(BytesIO(data), formats=(image_format,))


def _join(head: bytes, data: bytes, start: int) -> bytes:
    """A head, and a file from some place on, in one copy."""
    return b"".join((head, memoryview(data)[start:]))


def _reduce(image: Image.Image, needed_size: NeededSize) -> Box:
    orientation = read_orientation(image)
    needed = needed_size(turn_size(image.size, orientation))
    if needed is None:
        return (0, 0, *image.size)
    return jpeg.reduce(image, turn_size(needed, orientation))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":  # convert() would clip 16 bits to white
        image = _replace(image, image.point(lambda value: value * (1 / 256)))
        image = _replace(image, image.convert("L"))
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = _replace(image, image.convert("RGBA"))
        background = Image.new("RGB", image.size, _BACKGROUND)
        background.paste(image, mask=image)
        return _replace(image, background)
    return image if image.mode == "RGB" else _replace(image, image.convert("RGB"))


def _replace(image: Image.Image, made: Image.Image) -> Image.Image:
    """Free an image's pixels now that another is made of it: three of them are too many."""
    if made is not image:
        image.close()
    return made
