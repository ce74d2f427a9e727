"""An image in either form that a request may send: a file, or pixels."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.inference.decoding import Decoded, DecodeThreads, Fail, Submit, read_header
from app.inference.plan import Plan
from model.images.formats.format import EncodedImage
from model.images.formats.table import sniff

PIXELS: Final = "pixels"
_SAMPLE_BYTES: Final = 64
_ON_LOOP_BYTES: Final = 1024 * 1024
"""Up to here images are digested on the event loop, in less than a millisecond."""


@dataclass(frozen=True)
class ImageFile:
    """The bytes of a JPEG, PNG, WebP, GIF or BMP file; its header is read once, when asked for."""

    data: bytes

    def __hash__(self) -> int:
        """Hash samples: equal hashes are rare, and then all the bytes are compared."""
        return self._sample_hash

    @cached_property
    def _sample_hash(self) -> int:
        middle = len(self.data) // 2
        samples = self.data[middle : middle + _SAMPLE_BYTES], self.data[-_SAMPLE_BYTES:]
        return hash((len(self.data), samples))

    @cached_property
    def _header(self) -> EncodedImage | AppError:
        try:
            return read_header(self.data)
        except AppError as error:
            return error.copy()  # its frames hold this image

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.data)

    @property
    def format(self) -> str:
        """The format that the first bytes tell: `jpeg`, `png`, ... or `unknown`."""
        header = self._header
        name = sniff(self.data) if isinstance(header, AppError) else header.name
        return (name or "unknown").lower()

    def digest(self) -> Hashable:
        """Identify the content; takes 0.5 ms a megabyte."""
        return hashlib.sha256(self.data).digest()

    def predict_decode_s(self, threads: DecodeThreads, plan: Plan) -> float:
        """Predict how long decoding keeps all the threads busy; 0 if the header is rejected."""
        header = self._header
        return 0.0 if isinstance(header, AppError) else threads.predict_seconds(header, plan)

    def start_decoding(
        self, threads: DecodeThreads, plan: Plan, submit: Submit, fail: Fail
    ) -> AbstractContextManager[None]:
        """Start decoding; see `DecodeThreads.start`.

        Raises:
            AppError: the header is rejected.
        """
        header = self._header
        if isinstance(header, AppError):
            raise header.copy()
        return threads.start(header, plan, submit=submit, fail=fail)


@dataclass(frozen=True, slots=True, eq=False)
class ImagePixels:
    """An engine's input as it is: (height, width, 3), uint8."""

    pixels: NDArray[np.uint8]
    format: ClassVar = PIXELS

    def __eq__(self, other: object) -> bool:
        """Compare all the pixels."""
        return isinstance(other, ImagePixels) and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        """Hash a sample, as a file does."""
        middle = len(self.pixels) // 2
        return hash((self.pixels.shape, self.pixels[middle].tobytes()))

    @property
    def nbytes(self) -> int:
        """Size of the pixels in bytes."""
        return self.pixels.nbytes

    def digest(self) -> Hashable:
        """Identify the content; the shape tells it from a file of the same bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).digest(), self.pixels.shape

    def predict_decode_s(self, _: DecodeThreads, __: Plan) -> float:
        """Nothing is decoded."""
        return 0.0

    def start_decoding(
        self, _: DecodeThreads, __: Plan, submit: Submit, ___: Fail
    ) -> AbstractContextManager[None]:
        """Submit the pixels at once."""
        height, width, _channels = self.pixels.shape
        submit(Decoded(self.pixels, 0.0, 0.0, time.monotonic(), (width, height)))
        return nullcontext()


Image = ImageFile | ImagePixels


async def digest(images: Sequence[Image]) -> list[Hashable]:
    """Identify the contents of images; large ones not on the event loop."""

    def digest_all() -> list[Hashable]:
        return [image.digest() for image in images]

    if sum(image.nbytes for image in images) <= _ON_LOOP_BYTES:
        return digest_all()
    return await asyncio.to_thread(digest_all)
