"""Decode threads: image bytes -> pixels, never on the event loop."""

from __future__ import annotations

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
from app.pace import no_rest
from model.decode import DecodeLimits, Decoder
from model.errors import (
    ImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTruncatedError,
    UnsupportedImageFormatError,
)
from model.preprocess import needed_size, preprocess
from model.preprocessing import Preprocessing

_TRANSLATION: Mapping[type[ImageError], type[errors.AppError]] = {
    UnsupportedImageFormatError: errors.UnsupportedImageFormatError,
    ImageTooLargeError: errors.ImageTooLargeError,
    ImageTooComplexError: errors.ImageTooComplexError,
    ImageTruncatedError: errors.ImageTruncatedError,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image's pixels, (side, side, 3); its seconds of waiting for a thread, and in it."""

    pixels: NDArray[np.uint8]
    wait_s: float
    decode_s: float


class DecodeThreads:
    """Use as a context manager: leaving it ends the threads.

    Args:
        threads: pictures that are decoded at once.
        limits: what a picture may be.
        scaled_jpegs: decode big JPEGs at a reduced size; see `Decoder.decode_reduced`.
        rest: called before each picture; see `app.pace`.
    """

    def __init__(
        self,
        threads: int,
        limits: DecodeLimits,
        *,
        scaled_jpegs: bool,
        rest: Callable[[], None] = no_rest,
    ) -> None:
        self._decoder = Decoder(limits)
        self._scaled_jpegs = scaled_jpegs
        self._threads = threads
        self._rest = rest

    def __enter__(self) -> Self:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

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
        """Begin to turn one image into pixels; see `model.preprocess.preprocess`.

        What nobody waits for any more when it is left, and no thread has begun, is never decoded.

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

        def tell(done: Future[Decoded]) -> None:
            if done.cancelled():
                fail(errors.ShuttingDownError())
            elif error := done.exception():
                fail(error)
            else:
                enter(done.result().pixels)

        if not image:
            raise errors.EmptyFileError
        decoding = self._pool.submit(self._decode, image, preprocessing, side, time.monotonic())
        decoding.add_done_callback(tell)
        try:
            yield decoding
        finally:
            decoding.cancel()

    def _decode(
        self, image: bytes, preprocessing: Preprocessing, side: int | None, submitted: float
    ) -> Decoded:
        self._rest()
        started = time.monotonic()
        needed = partial(needed_size, preprocessing=preprocessing, side=side)
        try:
            picture = (
                self._decoder.decode_reduced(image, needed)
                if self._scaled_jpegs
                else self._decoder.decode(image)
            )
            pixels = preprocess(picture, preprocessing, side)
        except ImageError as error:
            raise _TRANSLATION.get(type(error), errors.InvalidImageError) from error
        except MemoryError as error:
            raise errors.OutOfMemoryError from error
        return Decoded(pixels, started - submitted, time.monotonic() - started)
