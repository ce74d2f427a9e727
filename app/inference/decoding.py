"""Decodes images to pixels in threads, never on the event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
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


Submit = Callable[[Decoded], None]
Fail = Callable[[BaseException], None]


@dataclass(slots=True, eq=False)
class Decoding:
    """An image that waits for a thread, or is in one.

    Use as a context manager while somebody waits for its pixels. An image that still waits for a
    thread when this is left is never decoded.

    Attributes:
        wake: called when this is left, if the image is in a thread, which may wait for memory.
    """

    image: EncodedImage
    plan: Plan
    submit: Submit
    fail: Fail
    wake: Callable[[], None]
    submitted: float
    is_wanted: bool = True
    is_running: bool = False

    def __enter__(self) -> None:
        """Nothing happens."""

    def __exit__(self, *_: object) -> None:
        """Give up what is not decoded yet."""
        self.is_wanted = False
        if self.is_running:
            self.wake()


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
        self._queue = SimpleQueue[Decoding | None]()
        self.in_flight = InFlight()

    def __enter__(self) -> Self:
        """Start all the threads; raises RuntimeError if this process may not have so many."""
        try:
            for number in range(self.threads):
                name = f"decode-{number}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what still waits fails."""
        with suppress(Empty):
            while True:
                if waiting := self._queue.get_nowait():
                    waiting.fail(errors.ShuttingDownError())
        self._queue.put(None)

    def predict_seconds(self, image: EncodedImage, plan: Plan) -> float:
        """Predict how long an image would keep all the threads busy."""
        return self._decoder.predict_seconds(image, plan) * self._slowness.value / self.threads

    def start(self, image: EncodedImage, plan: Plan, *, submit: Submit, fail: Fail) -> Decoding:
        """Start decoding an image; see `ImageDecoder.decode`.

        The decode thread calls `submit` with the pixels, or `fail` with an AppError.
        """
        decoding = Decoding(image, plan, submit, fail, self._decoder.wake, time.monotonic())
        self._queue.put(decoding)
        return decoding

    def _run(self) -> None:
        while decoding := self._queue.get():
            if decoding.is_wanted:
                self._decode_and_submit(decoding)
            del decoding  # holds an image
        self._queue.put(None)  # ends the next thread

    def _decode_and_submit(self, decoding: Decoding) -> None:
        decoding.is_running = True
        try:
            decoded = self._decode(decoding)
        except BaseException as error:  # noqa: BLE001  # its caller gets it
            decoding.fail(error)
        else:
            decoding.submit(decoded)
        finally:
            decoding.is_running = False

    def _decode(self, decoding: Decoding) -> Decoded:
        self._throttle()
        image, plan = decoding.image, decoding.plan
        started, used = time.monotonic(), self._cpu_time()
        with self.in_flight.track():
            pixels, size = self._decoder.decode(image, plan, lambda: decoding.is_wanted)
        ready = time.monotonic()
        predicted_s = self._decoder.predict_seconds(image, plan)
        self._slowness.learn(self._cpu_time() - used, predicted_s)
        return Decoded(pixels, started - decoding.submitted, ready - started, ready, size)
