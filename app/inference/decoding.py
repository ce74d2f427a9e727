"""Decode threads: image bytes -> pixels, never on the event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from app import errors
from app.inference.health import UnderWay
from app.inference.quota import no_rest
from model.errors import (
    AbandonedError,
    ImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTruncatedError,
    UnsupportedImageFormatError,
)
from model.images.cost import predict_seconds
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing

if TYPE_CHECKING:
    from model.images.decoded_image import NeededSize

_TRANSLATION: Mapping[type[ImageError], type[errors.AppError]] = {
    UnsupportedImageFormatError: errors.UnsupportedImageFormatError,
    ImageTooLargeError: errors.ImageTooLargeError,
    ImageTooComplexError: errors.ImageTooComplexError,
    ImageTruncatedError: errors.ImageTruncatedError,
}


def translate_image_error(error: ImageError) -> errors.AppError:
    """What a client is told of a picture that is none that we accept."""
    return _TRANSLATION.get(type(error), errors.InvalidImageError)()


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image's pixels, (side, side, 3); its seconds of waiting for a thread, and in it.

    Attributes:
        size: width and height of the picture that was sent, in pixels.
    """

    pixels: NDArray[np.uint8]
    wait_s: float
    decode_s: float
    size: tuple[int, int] = (0, 0)


class DecodeThreads:
    """Use as a context manager: leaving it ends the threads.

    Args:
        threads: pictures that are decoded at once.
        limits: what a picture may be.
        scaled_jpegs: decode big JPEGs at a reduced size; see `Decoder.decode_reduced`.
        slowness: how many times as long as predicted a core takes; see `measure_core`.
        rest: called before each picture; see `app.inference.quota`.

    Attributes:
        pictures: those that are being decoded.
    """

    def __init__(
        self,
        threads: int,
        limits: DecodeLimits,
        *,
        scaled_jpegs: bool,
        slowness: float = 1.0,
        rest: Callable[[], None] = no_rest,
    ) -> None:
        self._decoder = Decoder(limits)
        self._scaled_jpegs = scaled_jpegs
        self._threads = threads
        self._slowness = slowness
        self._rest = rest
        self.pictures = UnderWay()

    def __enter__(self) -> Self:
        """Start the threads: all of them now, so that none is missing once there are clients.

        Raises:
            RuntimeError: this process may not have so many.
        """
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        all_there = threading.Barrier(self._threads)
        try:
            for _ in range(self._threads):
                self._pool.submit(all_there.wait)
        except RuntimeError:
            all_there.abort()
            self._pool.shutdown(wait=False)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def predict_seconds(
        self, image: bytes, preprocessing: Preprocessing, side: int | None = None
    ) -> float:
        """Predict how long an image would keep all the threads busy, told from its header."""
        needed = self._needed_size(preprocessing, side)
        seconds = predict_seconds(image, self._decoder.limits, needed)
        return seconds * self._slowness / self._threads

    @contextmanager
    def start(
        self,
        image: bytes,
        preprocessing: Preprocessing,
        side: int | None = None,
        *,
        enter: Callable[[NDArray[np.uint8]], None],
        fail: Callable[[BaseException], None],
    ) -> Iterator[Future[Decoded]]:
        """Begin to turn one image into pixels; see `model.images.pixels.preprocess`.

        What still waits when it is left, for a thread, or in it for other pictures to make room, is
        never decoded.

        Args:
            image: the file's bytes.
            preprocessing: the checkpoint's.
            side: of a square input in pixels, instead of the checkpoint's own.
            enter: called in the decode thread with the pixels, (height, width, 3), once the future
                has its result.
            fail: called with an AppError that says why the image is none that we accept.

        Raises:
            EmptyFileError: there are no bytes.
        """
        if not image:
            raise errors.EmptyFileError
        left = threading.Event()
        decoding = self._pool.submit(
            self._decode, image, preprocessing, side, time.monotonic(), left
        )
        decoding.add_done_callback(partial(_tell, enter=enter, fail=fail))
        try:
            yield decoding
        finally:
            left.set()
            decoding.cancel()

    def _decode(
        self,
        image: bytes,
        preprocessing: Preprocessing,
        side: int | None,
        submitted: float,
        left: threading.Event,
    ) -> Decoded:
        self._rest()
        started = time.monotonic()
        needed = self._needed_size(preprocessing, side)
        try:
            with (
                self.pictures.piece(),
                self._decoder.open(image, needed, lambda: not left.is_set()) as picture,
            ):
                size = picture.size
                pixels = preprocess(picture, preprocessing, side)
        except ImageError as error:
            raise translate_image_error(error) from error
        except AbandonedError as error:
            raise errors.DeadlineExceededError from error  # told to nobody
        except MemoryError as error:
            raise errors.OutOfMemoryError from error
        return Decoded(pixels, started - submitted, time.monotonic() - started, size)

    def _needed_size(self, preprocessing: Preprocessing, side: int | None) -> NeededSize:
        if not self._scaled_jpegs:
            return lambda _: None
        return partial(needed_size, preprocessing=preprocessing, side=side)


def _tell(
    done: Future[Decoded],
    enter: Callable[[NDArray[np.uint8]], None],
    fail: Callable[[BaseException], None],
) -> None:
    if done.cancelled():
        fail(errors.ShuttingDownError())
    elif error := done.exception():
        fail(error)
    else:
        enter(done.result().pixels)
