"""Decodes images to pixels in threads, never on the event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app import errors
from app.inference.estimate import Estimate
from app.inference.health import InFlight
from app.inference.plan import Plan
from model.errors import (
    AbandonedError,
    ImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTruncatedError,
    UnsupportedImageFormatError,
)
from model.images.decoded_image import NeededSize, Size
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats import table
from model.images.formats.format import EncodedImage
from model.images.pixels import needed_size, preprocess

_APP_ERRORS: Mapping[type[ImageError], type[errors.AppError]] = {
    UnsupportedImageFormatError: errors.UnsupportedImageFormatError,
    ImageTooLargeError: errors.ImageTooLargeError,
    ImageTooComplexError: errors.ImageTooComplexError,
    ImageTruncatedError: errors.ImageTruncatedError,
}


def read_header(data: bytes) -> EncodedImage:
    """Read the header of an image file.

    Raises:
        AppError: the file is rejected.
    """
    if not data:
        raise errors.EmptyFileError
    try:
        return table.read_header(data)
    except ImageError as error:
        raise _translate(error) from error


def _translate(error: ImageError) -> errors.AppError:
    return _APP_ERRORS.get(type(error), errors.InvalidImageError)()


class ImageDecoder:
    """Makes an engine's pixels of an image; may be used by several threads.

    Args:
        limits: on an image, and on the memory of all that are being decoded.
        scaled_jpegs: decode big JPEGs at a reduced size; see `Decoder.open`.
    """

    def __init__(self, limits: DecodeLimits, *, scaled_jpegs: bool) -> None:
        self.limits = limits
        self._decoder = Decoder(limits)
        self._scaled_jpegs = scaled_jpegs

    def decode(
        self, image: EncodedImage, plan: Plan, is_wanted: Callable[[], bool] = lambda: True
    ) -> tuple[NDArray[np.uint8], Size]:
        """Decode and preprocess an image; see `Decoder.open` and `model.images.pixels.preprocess`.

        Returns:
            Pixels, (height, width, 3), and the width and height of the image as sent.

        Raises:
            AppError: the image is rejected, or is not wanted any more.
        """
        try:
            with self._decoder.open(image, self._needed_size(plan), is_wanted) as decoded:
                return preprocess(decoded, plan.preprocessing), decoded.size
        except ImageError as error:
            raise _translate(error) from error
        except AbandonedError as error:
            raise errors.DeadlineExceededError from error  # its caller has left
        except MemoryError as error:
            raise errors.OutOfMemoryError from error

    def wake(self) -> None:
        """Let images that wait for memory leave if they are not wanted any more."""
        self._decoder.wake()

    def predict_seconds(self, image: EncodedImage, plan: Plan) -> float:
        """Predict how long a core of the reference machine would decode; 0 if it is too large."""
        try:
            self.limits.check(image.size)
        except ImageError:
            return 0.0
        return image.predict_seconds(self._needed_size(plan))

    def _needed_size(self, plan: Plan) -> NeededSize:
        if not self._scaled_jpegs:
            return lambda _: None
        return partial(needed_size, preprocessing=plan.preprocessing)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of an image, (height, width, 3), and how they were made.

    Attributes:
        wait_s: how long it waited for a thread, in seconds.
        decode_s: how long the thread took, in seconds.
        ready: when the pixels were there, by `time.monotonic`.
        size: width and height of the image as sent, in pixels.
    """

    pixels: NDArray[np.uint8]
    wait_s: float
    decode_s: float
    ready: float
    size: Size


class DecodeThreads:
    """Use as a context manager: entering starts the threads, leaving ends them.

    How much slower than the reference machine's a core is, they learn from what they decode.

    Args:
        threads: how many images are decoded at once.
        throttle: called before each image; see `app.inference.quota`.

    Attributes:
        in_flight: the images that are being decoded.
    """

    def __init__(
        self,
        threads: int,
        decoder: ImageDecoder,
        *,
        throttle: Callable[[], None] = lambda: None,
        cpu_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self.threads = threads
        self._cpu_time = cpu_time
        self._decoder = decoder
        self._slowness = Estimate(1.0)
        self._throttle = throttle
        self.in_flight = InFlight()

    def __enter__(self) -> Self:
        """Start all the threads; raises RuntimeError if this process may not have so many."""
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        all_there = threading.Barrier(self.threads)
        try:
            for _ in range(self.threads):
                self._pool.submit(all_there.wait)
        except RuntimeError:
            all_there.abort()
            self._pool.shutdown(wait=False)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def predict_seconds(self, image: EncodedImage, plan: Plan) -> float:
        """Predict how long an image would keep all the threads busy."""
        return self._decoder.predict_seconds(image, plan) * self._slowness.value / self.threads

    @contextmanager
    def start(
        self,
        image: EncodedImage,
        plan: Plan,
        *,
        submit: Callable[[NDArray[np.uint8]], None],
        fail: Callable[[BaseException], None],
    ) -> Iterator[Future[Decoded]]:
        """Start decoding an image; see `ImageDecoder.decode`.

        Once the future has its result, the decode thread calls `submit` with the pixels, or `fail`
        with an AppError. An image that still waits when this is left is never decoded.
        """
        left = threading.Event()

        def pass_on(done: Future[Decoded]) -> None:
            if done.cancelled():
                fail(errors.ShuttingDownError())
            elif error := done.exception():
                fail(error)
            else:
                submit(done.result().pixels)

        decoding = self._pool.submit(self._decode, image, plan, time.monotonic(), left)
        decoding.add_done_callback(pass_on)
        try:
            yield decoding
        finally:
            left.set()
            if not decoding.cancel() and not decoding.done():
                self._decoder.wake()

    def _decode(
        self, image: EncodedImage, plan: Plan, submitted: float, left: threading.Event
    ) -> Decoded:
        self._throttle()
        started, used = time.monotonic(), self._cpu_time()
        with self.in_flight.track():
            pixels, size = self._decoder.decode(image, plan, lambda: not left.is_set())
        ready = time.monotonic()
        predicted_s = self._decoder.predict_seconds(image, plan)
        self._slowness.learn(self._cpu_time() - used, predicted_s)
        return Decoded(pixels, started - submitted, ready - started, ready, size)
