"""Decodes untrusted bytes to RGB images.

In this order: the limits, the format's cheap checks, memory budget, and only then pixels.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from model.errors import (
    ImageTooLargeError,
    ImageTruncatedError,
    InvalidImageError,
    ModelError,
)
from model.images.budget import PIXEL_BYTES, MemoryBudget
from model.images.colours import replace, to_rgb
from model.images.decoded_image import DecodedImage
from model.images.formats.table import read_header
from model.images.orientation import read_orientation, turn, turn_box, turn_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.images.decoded_image import NeededSize, Size
    from model.images.formats.format import EncodedImage


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits of one image, and of the memory that all decoding takes at once, in bytes."""

    max_pixels: int = 25_000_000
    max_side: int = 16_384
    max_bytes_at_once: int = 25_000_000 * PIXEL_BYTES

    def check(self, size: Size) -> None:
        """Check an image's size.

        Raises:
            ImageTooLargeError: it has too many pixels, or too long a side.
        """
        width, height = size
        if width * height > self.max_pixels or max(width, height) > self.max_side:
            raise ImageTooLargeError(f"{width}x{height}")


class Decoder:
    """Decodes images in any number of threads, within one memory budget for all of them."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.limits = limits
        self._budget = MemoryBudget(limits.max_bytes_at_once)

    def decode(self, data: bytes) -> Image.Image:
        """Decode at full size; see `open`."""
        with self.open(read_header(data)) as decoded:
            return decoded.image

    def wake(self) -> None:
        """Let images that wait for memory leave if they are no longer wanted."""
        self._budget.wake()

    @contextmanager
    def open(
        self,
        encoded: EncodedImage,
        needed_size: NeededSize = lambda _: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[DecodedImage]:
        """Decode the first frame, upright, as RGB; hold its memory reservation until the end.

        Args:
            encoded: as `read_header` returns it.
            needed_size: called with the image's upright size. A JPEG of a megapixel or more is
                decoded at 1/2, 1/4 or 1/8 of its size if twice the needed one is left, both ways.
            is_wanted: asked before any pixel is decoded, and while it waits for memory, on `wake`.

        Raises:
            AbandonedError: it is no longer wanted.
            ImageError: it is beyond the limits, would take too long, is cut, or is damaged.
        """
        with ExitStack() as reservation:
            with _pillow_errors():
                self.limits.check(encoded.size)
                encoded.check()
                with encoded.open() as image:
                    full_size = image.size
                    self.limits.check(full_size)
                    box = encoded.reduce(image, needed_size)
                    peak_bytes = encoded.peak_bytes(image.width * image.height)
                    reservation.enter_context(self._budget.reserve(peak_bytes, is_wanted))
                    image.load()
                    orientation = read_orientation(image)  # in a PNG it may follow the pixels
                    size = image.size
                    decoded = DecodedImage(
                        to_rgb(replace(image, turn(image, orientation))),
                        turn_size(full_size, orientation),
                        turn_box(box, size, orientation),
                    )
            yield decoded


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Raise what Pillow raises as an ImageError."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("more pixels than Pillow allows") from error
    except Exception as error:  # Pillow's errors on hostile bytes have no common base
        # Pillow says this in words only.
        if isinstance(error, OSError) and "truncated" in str(error).lower():
            raise ImageTruncatedError("the data end too early") from error
        raise InvalidImageError(type(error).__name__) from error
