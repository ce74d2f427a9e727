"""An image in either form that a request may send: a file's bytes, or pixels."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from app.inference.decoding import Decoded, DecodeThreads
from model.images.formats.table import sniff

if TYPE_CHECKING:
    from app.inference.plan import Plan

PIXELS: Final = "pixels"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of a JPEG, PNG, WebP, GIF or BMP file, not checked yet."""

    data: bytes

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.data)

    @property
    def format(self) -> str:
        """The format that the first bytes tell: `jpeg`, `png`, ... or `unknown`."""
        return (sniff(self.data) or "unknown").lower()

    def digest(self) -> Hashable:
        """Identify the content; takes 0.5 ms a megabyte."""
        return hashlib.sha256(self.data).digest()

    def predict_decode_s(self, threads: DecodeThreads, plan: Plan) -> float:
        """Predict how long decoding would keep all the threads busy, in seconds."""
        return threads.predict_seconds(self.data, plan)

    def start_decoding(
        self,
        threads: DecodeThreads,
        plan: Plan,
        submit: Callable[[NDArray[np.uint8]], None],
        fail: Callable[[BaseException], None],
    ) -> AbstractContextManager[Future[Decoded]]:
        """Make the engine's pixels; see `DecodeThreads.start`."""
        return threads.start(self.data, plan, submit=submit, fail=fail)


@dataclass(frozen=True, slots=True, eq=False)
class ImagePixels:
    """An engine's input as it is: (height, width, 3), uint8."""

    pixels: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Size of the pixels in bytes."""
        return self.pixels.nbytes

    @property
    def format(self) -> str:
        """The name of this form, where a file has its format."""
        return PIXELS

    def digest(self) -> Hashable:
        """Identify the content; the shape tells it from a file of the same bytes."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).digest(), self.pixels.shape

    def predict_decode_s(self, threads: DecodeThreads, plan: Plan) -> float:
        """There is nothing to decode."""
        del threads, plan
        return 0.0

    @contextmanager
    def start_decoding(
        self,
        threads: DecodeThreads,
        plan: Plan,
        submit: Callable[[NDArray[np.uint8]], None],
        fail: Callable[[BaseException], None],
    ) -> Iterator[Future[Decoded]]:
        """Submit the pixels at once."""
        del threads, plan, fail
        height, width, _ = self.pixels.shape
        decoding: Future[Decoded] = Future()
        decoding.set_result(Decoded(self.pixels, 0.0, 0.0, time.monotonic(), (width, height)))
        submit(self.pixels)
        yield decoding


Image = ImageFile | ImagePixels
