"""One image through the house: bytes -> pixels -> batch -> answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app import errors
from app.inference.answers import Classification, Embedding, Outputs, describe
from app.inference.batcher import DynamicBatcher
from app.inference.cache import SharedAnswers
from app.inference.costs import Costs
from app.inference.decoding import DecodeThreads
from app.inference.options import DEFAULT_TOP_K, ClassifyOptions, EmbedOptions
from app.inference.pipeline import Computation
from app.inference.plan import Image, Plan
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record
from app.telemetry.traces import Traces
from model.engines.base import Engine
from model.network.config import LOGITS, POOLED
from model.network.scores import activate, normalize, top_k


class Service:
    """Answers questions about images.

    Args:
        engines: one a served model, by its name; the first is the default.
        batcher: already started.
        decode_threads: already started.
        shared: answers of other requests.
        max_output_bytes: numbers of one answer.
        traces: get spans for each image.
    """

    def __init__(
        self,
        *,
        engines: Mapping[str, Engine],
        batcher: DynamicBatcher,
        decode_threads: DecodeThreads,
        metrics: Metrics,
        shared: SharedAnswers,
        max_output_bytes: int,
        traces: Traces | None = None,
    ) -> None:
        self.engines = engines
        self.batcher = batcher
        self.decode_threads = decode_threads
        self._computation = Computation(batcher, decode_threads, metrics, traces)
        self._shared = shared
        self._max_output_bytes = max_output_bytes
        self.loaded_at = int(time.time())
        default = next(iter(engines.values()))
        self._costs = Costs(default, decode_threads, batcher.admission.images_per_s)

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

    def embedding_shapes(
        self, options: EmbedOptions, images: int = 1
    ) -> dict[str, tuple[int, ...]]:
        """What `embed` would answer of each image: the shapes by layer.

        Raises:
            OutputTooLargeError: for so many images, that is more than an answer may have.
        """
        plan = self._embedder(options)
        config = plan.engine.checkpoint.config
        shapes = {
            feature.layer: feature.shape(config, *plan.input_size, plan.output_stride)
            for feature in options.features
        }
        numbers = images * sum(map(math.prod, shapes.values()))
        if numbers * np.dtype(options.dtype).itemsize > self._max_output_bytes:
            raise errors.OutputTooLargeError
        return shapes

    async def classify(
        self, image: bytes, options: ClassifyOptions, timeout_s: float, record: Record
    ) -> Classification:
        """Name the best classes of one image.

        Raises:
            AppError: see `app.errors`.
        """
        plan = self._classifier(options)
        outputs = await self._compute(image, plan, timeout_s, record)
        return _classification(outputs, plan, options)

    async def classify_many(
        self, images: Sequence[bytes], options: ClassifyOptions, timeout_s: float, record: Record
    ) -> list[Classification | errors.AppError]:
        """Name the best classes of each image; one that cannot be read fails alone."""
        plan = self._classifier(options)
        many = await self.compute_many(images, plan, timeout_s, record)
        return [
            one if isinstance(one, errors.AppError) else _classification(one, plan, options)
            for one in many
        ]

    async def embed(
        self, image: bytes, options: EmbedOptions, timeout_s: float, record: Record
    ) -> Embedding:
        """The features of one image.

        Raises:
            AppError: see `app.errors`.
        """
        plan = self._embedder(options)
        outputs = await self._compute(image, plan, timeout_s, record)
        return await _embedding(outputs, plan, options)

    async def embed_many(
        self, images: Sequence[bytes], options: EmbedOptions, timeout_s: float, record: Record
    ) -> list[Embedding | errors.AppError]:
        """The features of each image; one that cannot be read fails alone."""
        plan = self._embedder(options)
        many = await self.compute_many(images, plan, timeout_s, record)
        return [
            one if isinstance(one, errors.AppError) else await _embedding(one, plan, options)
            for one in many
        ]

    def _classifier(self, options: ClassifyOptions) -> Plan:
        engine = self.engine(options.model)
        classes = engine.checkpoint.config.num_labels
        if not classes:
            raise errors.NoClassifierError
        if options.top_k is not None and options.top_k > classes:
            raise errors.InvalidParameterError(f"top_k must be at most {classes} for this model.")
        return Plan(engine, frozenset({LOGITS}), options.size)

    def _embedder(self, options: EmbedOptions) -> Plan:
        engine = self.engine(options.model)
        outputs = frozenset(feature.output for feature in options.features)
        return Plan(engine, outputs, options.size, options.output_stride)

    async def _compute(self, image: Image, plan: Plan, timeout_s: float, record: Record) -> Outputs:
        async def compute() -> Outputs:
            with self.batcher.admission.reserve(self._costs.predict(image, plan)):
                return await self._computation.run(image, plan)

        record.asked(plan.engine.checkpoint.name, 1, _count_bytes([image]))
        outputs = await self._shared.one(image, plan, compute, timeout_s)
        record.answered(**describe([outputs]))
        return outputs

    async def compute_many(
        self, images: Sequence[Image], plan: Plan, timeout_s: float, record: Record
    ) -> list[Outputs | errors.AppError]:
        """What the engine says of each image; one that cannot be read fails alone.

        Raises:
            AppError: of the request as a whole.
        """
        if len(images) == 1:
            try:
                return [await self._compute(images[0], plan, timeout_s, record)]
            except errors.AppError as error:
                return [error]
        compute = partial(self._compute_window, plan)
        record.asked(plan.engine.checkpoint.name, len(images), _count_bytes(images))
        answers = await self._shared.many(images, plan, compute, timeout_s)
        record.answered(**describe(answers))
        return answers

    async def _compute_window(
        self, plan: Plan, images: Sequence[Image]
    ) -> list[Outputs | errors.AppError]:
        """Feed them through a window, so that one request cannot fill the queue alone."""
        costs = [self._costs.predict(image, plan) for image in images]
        most = self.batcher.streams * self.batcher.max_batch_size
        window, cost = self.batcher.admission.window(costs, most)
        free = asyncio.Semaphore(window)

        async def run(image: Image) -> Outputs | errors.AppError:
            async with free:
                try:
                    return await self._computation.run(image, plan)
                except errors.AppError as error:
                    return error

        with self.batcher.admission.reserve(cost):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run(image)) for image in images]
        return [task.result() for task in tasks]


def _count_bytes(images: Sequence[Image]) -> int:
    return sum(len(one) if isinstance(one, bytes) else one.nbytes for one in images)


def _classification(outputs: Outputs, plan: Plan, options: ClassifyOptions) -> Classification:
    count = options.top_k or DEFAULT_TOP_K

    def rank() -> list[tuple[int, float]]:
        scores = activate(outputs.arrays[LOGITS], options.activation)
        least = options.min_score or -math.inf  # logits are below 0 too
        return top_k(scores, count, least)

    checkpoint = plan.engine.checkpoint
    best = outputs.ranking.find((count, options.min_score, options.activation), rank)
    predictions = [(checkpoint.labels[class_id], score) for class_id, score in best]
    return Classification(
        checkpoint.name, predictions, outputs.stages, outputs.batch_size, outputs.cache
    )


async def _embedding(outputs: Outputs, plan: Plan, options: EmbedOptions) -> Embedding:
    def extract() -> dict[str, NDArray[np.float32]]:
        layers = {one.layer: one.extract(outputs.arrays) for one in options.features}
        return {name: normalize(array) for name, array in layers.items()} if unit else layers

    unit = options.normalize
    small = plan.outputs == {POOLED}
    layers = extract() if small else await asyncio.to_thread(extract)  # maps are pooled here
    name = plan.engine.checkpoint.name
    return Embedding(name, layers, outputs.stages, outputs.batch_size, outputs.cache)
