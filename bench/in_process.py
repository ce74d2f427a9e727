"""Finds the machine's limit: decode, preprocess and forward without HTTP and without a queue."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine
from model.engines.cores import count_cores
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess


class InProcess:
    """The parts of the service, called one after the other, with the default model.

    Every photo is decoded at its own size, as the service does without JPEG_SCALED_DECODE.
    """

    def __init__(self) -> None:
        self.threads = count_cores()
        self._checkpoint = load_checkpoint(DEFAULT_DIRECTORY)
        self._engine = load_engine(self._checkpoint, name="onnx", threads=self.threads)
        self._decoder = Decoder(DecodeLimits())

    def classify(self, photo: bytes, *, alone: bool) -> None:
        """Decode and compute one photo."""
        pixels = preprocess(self._decoder.decode(photo), self._checkpoint.preprocessing)
        self._engine.run(pixels[None], alone=alone)

    def images_per_s(self, photos: list[bytes], seconds: float) -> float:
        """Return photos a second with as many threads as cores, each on a photo of its own."""
        started = time.perf_counter()

        def work(number: int) -> int:
            count = 0
            while time.perf_counter() < started + seconds:
                self.classify(photos[(number + count * self.threads) % len(photos)], alone=False)
                count += 1
            return count

        with ThreadPoolExecutor(self.threads) as pool:
            count = sum(pool.map(work, range(self.threads)))
        return count / (time.perf_counter() - started)

    def single_ms(self, photos: list[bytes], seconds: float) -> float:
        """Return the median time of one photo with all threads on it, in milliseconds."""
        durations, end = [], time.perf_counter() + seconds
        for photo in photos * 100:
            started = time.perf_counter()
            if started > end:
                break
            self.classify(photo, alone=True)
            durations.append(time.perf_counter() - started)
        return 1000 * statistics.median(durations)
