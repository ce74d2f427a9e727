"""The limit: decode, preprocess and forward in one process, without HTTP and without a queue."""

from __future__ import annotations

import statistics
import threading
import time

from model.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.decode import DecodeLimits, Decoder
from model.engines import load_engine
from model.engines.cores import count_cores
from model.preprocess import preprocess


class InProcess:
    """The same parts as the service, called one after the other.

    Every photo is decoded at its own size, as the service does without JPEG_SCALED_DECODE.
    """

    def __init__(self) -> None:
        self.threads = count_cores()
        self._checkpoint = load_checkpoint(DEFAULT_DIRECTORY)
        self._engine = load_engine(self._checkpoint, name="onnx", threads=self.threads)
        self._decoder = Decoder(DecodeLimits())

    def label(self, photo: bytes, *, alone: bool) -> None:
        """Compute one photo."""
        pixels = preprocess(self._decoder.decode(photo), self._checkpoint.preprocessing)
        self._engine.run(pixels[None], alone=alone)

    def images_per_s(self, photos: list[bytes], seconds: float) -> float:
        """Photos a second with as many threads as cores, each on a photo of its own."""
        counts = [0] * self.threads
        end = time.perf_counter() + seconds

        def work(number: int) -> None:
            position = number
            while time.perf_counter() < end:
                self.label(photos[position % len(photos)], alone=False)
                position += self.threads
                counts[number] += 1

        workers = [threading.Thread(target=work, args=(n,)) for n in range(self.threads)]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts) / (time.perf_counter() - started)

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
