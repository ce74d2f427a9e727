"""What is read when metrics are asked for, instead of being kept up to date all the time."""

from __future__ import annotations

from collections.abc import Iterable

from app.inference.batcher import DynamicBatcher
from app.inference.decoding import DecodeThreads
from app.telemetry.metrics import Metrics
from model.engines.base import Engine


def show_queue(metrics: Metrics, batcher: DynamicBatcher) -> None:
    """The queue and the streams."""
    admission = batcher.admission
    metrics.queue_depth.set_function(lambda: batcher.waiting)
    metrics.queue_oldest.set_function(lambda: batcher.oldest_wait_s)
    metrics.work.set_function(lambda: admission.work)
    metrics.work_capacity.set_function(lambda: admission.capacity)
    metrics.streams.set(batcher.streams)
    metrics.streams_busy.set_function(lambda: len(batcher.batches.numbers()))


def show_decode_threads(metrics: Metrics, threads: int, decode_threads: DecodeThreads) -> None:
    """The decode threads, so many of them."""
    metrics.decode_threads.set(threads)
    metrics.decode_threads_busy.set_function(lambda: len(decode_threads.pictures.numbers()))


def show_models(metrics: Metrics, engines: Iterable[Engine]) -> None:
    """What is served."""
    for engine in engines:
        checkpoint = engine.checkpoint
        described = checkpoint.name, checkpoint.digest, engine.name, engine.device
        metrics.model_info.labels(*described).set(1)
