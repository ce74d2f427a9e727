"""One image through the house: bytes -> pixels -> batch -> answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app import errors
from app.batching import DynamicBatcher
from app.decoding import DecodeThreads
from app.metrics import Metrics
from app.schemas import ClassifyOptions, EmbedOptions
from model.engines.base import POOLED, Engine
from model.labels import Label
from model.postprocess import normalize, softmax, top_k

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Stages:
    """Where an image's time went, in seconds.

    Attributes:
        decode_s: in a decode thread, from bytes to pixels.
        queue_s: waiting, for a decode thread and for a batch.
        inference_s: in its batch.
    """

    decode_s: float
    queue_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class Features:
    """What the engine says of one image: logits (classes,) and pooled features (channels,)."""

    logits: NDArray[np.float32]
    pooled: NDArray[np.float32]
    stages: Stages
    batch_size: int


@dataclass(frozen=True, slots=True)
class Classification:
    """The best classes of one image with their scores, best first."""

    model: str
    predictions: Sequence[tuple[Label, float]]
    stages: Stages
    batch_size: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """One image's features, (channels,), float32, and the layer that they are of."""

    model: str
    layer: str
    values: NDArray[np.float32]
    stages: Stages
    batch_size: int


class Service:
    """Answers questions about images.

    Args:
        engines: one a served model, by its name; the first is the default.
        batcher: already started.
        decode_threads: already started.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        batcher: DynamicBatcher,
        decode_threads: DecodeThreads,
        metrics: Metrics,
    ) -> None:
        self.engines = engines
        self.batcher = batcher
        self._decode_threads = decode_threads
        self._metrics = metrics

    def engine(self, model: str | None) -> Engine:
        """The engine of a served model; of the first one if None.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        if model is None:
            return next(iter(self.engines.values()))
        if model not in self.engines:
            raise errors.ModelNotFoundError
        return self.engines[model]

    async def classify(
        self, image: bytes, options: ClassifyOptions, timeout_s: float
    ) -> Classification:
        """Name the best classes of one image.

        Raises:
            AppError: see `app.errors`.
        """
        engine = self._classifier(options)
        features = await self._compute(image, engine, options.size, timeout_s)
        return _classification(features, engine, options)

    async def classify_many(
        self, images: Sequence[bytes], options: ClassifyOptions, timeout_s: float
    ) -> list[Classification | errors.AppError]:
        """Name the best classes of each image; one that cannot be read fails alone."""
        engine = self._classifier(options)
        many = await self._compute_many(images, engine, options.size, timeout_s)
        return _each(many, lambda features: _classification(features, engine, options))

    async def embed(self, image: bytes, options: EmbedOptions, timeout_s: float) -> Embedding:
        """The features of one image.

        Raises:
            AppError: see `app.errors`.
        """
        engine = self.engine(options.model)
        features = await self._compute(image, engine, options.size, timeout_s)
        return _embedding(features, engine, options)

    async def embed_many(
        self, images: Sequence[bytes], options: EmbedOptions, timeout_s: float
    ) -> list[Embedding | errors.AppError]:
        """The features of each image; one that cannot be read fails alone."""
        engine = self.engine(options.model)
        many = await self._compute_many(images, engine, options.size, timeout_s)
        return _each(many, lambda features: _embedding(features, engine, options))

    def _classifier(self, options: ClassifyOptions) -> Engine:
        engine = self.engine(options.model)
        classes = engine.checkpoint.config.num_labels
        if "top_k" in options.model_fields_set and options.top_k > classes:
            raise errors.InvalidParameterError(f"top_k must be at most {classes} for this model.")
        return engine

    async def _compute(
        self, image: bytes, engine: Engine, side: int | None, timeout_s: float
    ) -> Features:
        async with self._admit(_cost(engine, side), timeout_s) as deadline:
            return await self._run(image, engine, side, deadline)

    async def _compute_many(
        self, images: Sequence[bytes], engine: Engine, side: int | None, timeout_s: float
    ) -> list[Features | errors.AppError]:
        """Feed the images through a window, so that one request cannot fill the queue alone."""
        window = min(len(images), self.batcher.streams * self.batcher.max_batch_size)
        free = asyncio.Semaphore(window)

        async def run(image: bytes) -> Features | errors.AppError:
            async with free:
                try:
                    return await self._run(image, engine, side, deadline)
                except errors.AppError as error:
                    return error

        cost = window * _cost(engine, side)
        async with self._admit(cost, timeout_s) as deadline, asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(image)) for image in images]
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def _admit(self, cost: float, timeout_s: float) -> AsyncIterator[float]:
        """Hold a place in the queue, for so long at most; gives the deadline."""
        with self.batcher.admission.reserve(cost):
            try:
                async with asyncio.timeout(timeout_s):
                    yield time.monotonic() + timeout_s
            except TimeoutError:
                raise errors.DeadlineExceededError from None

    async def _run(
        self, image: bytes, engine: Engine, side: int | None, deadline: float
    ) -> Features:
        decoded = await self._decode_threads.decode(image, engine.checkpoint.preprocessing, side)
        row = await self.batcher.submit(engine, decoded.pixels, deadline=deadline)
        stages = Stages(decoded.decode_s, decoded.wait_s + row.queue_s, row.inference_s)
        observe = self._metrics.stage_duration
        observe.labels("decode").observe(stages.decode_s)
        observe.labels("queue").observe(stages.queue_s)
        observe.labels("inference").observe(stages.inference_s)
        return Features(row.logits, row.features[POOLED], stages, row.batch_size)


def _cost(engine: Engine, side: int | None) -> float:
    """An image's work over that of the model's default size: multiply-adds grow with the area."""
    return 1.0 if side is None else (side / engine.checkpoint.preprocessing.crop_side) ** 2


def _each(
    many: Sequence[Features | errors.AppError], shape: Callable[[Features], _Answer]
) -> list[_Answer | errors.AppError]:
    return [one if isinstance(one, errors.AppError) else shape(one) for one in many]


def _classification(features: Features, engine: Engine, options: ClassifyOptions) -> Classification:
    labels = engine.checkpoint.labels
    best = top_k(softmax(features.logits), options.top_k, options.min_score)
    predictions = [(labels[class_id], score) for class_id, score in best]
    return Classification(engine.checkpoint.name, predictions, features.stages, features.batch_size)


def _embedding(features: Features, engine: Engine, options: EmbedOptions) -> Embedding:
    values = normalize(features.pooled) if options.normalize else features.pooled
    return Embedding(engine.checkpoint.name, POOLED, values, features.stages, features.batch_size)
