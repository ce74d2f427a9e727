"""The limit: decode, preprocess and forward in one process, without HTTP and without a queue."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint
from model.engines import load_engine
from model.engines.cores import count_cores
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess

_T = TypeVar("_T")


class InProcess:
    """The same parts as the service, called one after the other; of the default model if None.

    Every photo is decoded at its own size, as the service does without JPEG_SCALED_DECODE.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.threads = count_cores()
        self._checkpoint = checkpoint or load_checkpoint(DEFAULT_DIRECTORY)
        self._engine = load_engine(self._checkpoint, name="onnx", threads=self.threads)
        self._decoder = Decoder(DecodeLimits())

    def decode(self, photo: bytes) -> NDArray[np.uint8]:
        """The pixels of one photo, (height, width, 3)."""
        return preprocess(self._decoder.decode(photo), self._checkpoint.preprocessing)

    def label(self, photo: bytes, *, alone: bool) -> None:
        """Compute one photo."""
        self._engine.run(self.decode(photo)[None], alone=alone)

    def images_per_s(self, photos: list[bytes], seconds: float) -> float:
        """Photos a second with as many threads as cores, each on a photo of its own."""
        return self._rate(lambda photo: self.label(photo, alone=False), photos, seconds)

    def decoded_per_s(self, photos: list[bytes], seconds: float) -> float:
        """The same without the engine."""
        return self._rate(self.decode, photos, seconds)

    def computed_per_s(self, photos: list[bytes], seconds: float) -> float:
        """The same without decoding: the engine alone."""
        pixels = self.decode(photos[0])[None]
        return self._rate(lambda one: self._engine.run(one, alone=False), [pixels], seconds)

    def single_ms(self, photos: list[bytes], seconds: float) -> float:
        """Median time of one photo with all threads on it, in milliseconds."""
        durations, end = [], time.perf_counter() + seconds
        for photo in photos * 100:
            started = time.perf_counter()
            if started > end:
                break
            self.label(photo, alone=True)
            durations.append(time.perf_counter() - started)
        return 1000 * statistics.median(durations)

    def _rate(self, step: Callable[[_T], object], things: Sequence[_T], seconds: float) -> float:
        """Steps a second, all threads together."""
        counts = [0] * self.threads
        end = time.perf_counter() + seconds

        def work(number: int) -> None:
            position = number
            while time.perf_counter() < end:
                step(things[position % len(things)])
                position += self.threads
                counts[number] += 1

        workers = [threading.Thread(target=work, args=(n,)) for n in range(self.threads)]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts) / (time.perf_counter() - started)
