"""Answers requests: looks outputs up, computes what is missing, keeps it, and ranks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from app import errors
from app.inference.answers import (
    CacheOutcome,
    Classification,
    Embedding,
    Outputs,
    describe,
    extract,
    rank,
)
from app.inference.cache import Key, ResultCache, create_keys
from app.inference.image import Image, ImageFile
from app.inference.options import ClassifyOptions, EmbedOptions
from app.inference.pipeline import Pipeline
from app.inference.plan import Plan
from app.inference.single_flight import SingleFlight
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record
from model.engines.base import Engine
from model.network.config import LOGITS, POOLED

_T = TypeVar("_T")
_Answer = Outputs | errors.AppError


class Service:
    """Answers questions about images.

    Args:
        engines: of the served models, by name; the first is the default.
        pipeline: computes outputs.
        cache: keeps them.
        max_output_bytes: numbers of one answer.
        metrics: count what the cache was asked for.

    Attributes:
        loaded_at: seconds since 1970.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        pipeline: Pipeline,
        cache: ResultCache,
        *,
        max_output_bytes: int,
        metrics: Metrics,
    ) -> None:
        self.engines = engines
        self.pipeline = pipeline
        self.batcher = pipeline.batcher
        self.decode_threads = pipeline.decode_threads
        self.cache = cache
        self.loaded_at = int(time.time())
        self._flights = SingleFlight[dict[Key, _Answer]]()
        self._max_output_bytes = max_output_bytes
        outcomes: tuple[CacheOutcome, ...] = ("hit", "miss", "shared")
        self._counts = [metrics.cache_requests.labels(outcome) for outcome in outcomes]

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
        """Tell what `embed` would answer for each image: the shapes by layer.

        Raises:
            OutputTooLargeError: so many images would exceed the limit on an answer.
        """
        plan = self.embed_plan(options)
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
        (answer,) = await self.classify_many([image], options, timeout_s, record)
        return _require(answer)

    async def classify_many(
        self, images: Sequence[bytes], options: ClassifyOptions, timeout_s: float, record: Record
    ) -> list[Classification | errors.AppError]:
        """Name the best classes of each image; one that is rejected fails alone."""
        plan = self.classify_plan(options)
        answers = await self.compute(list(map(ImageFile, images)), plan, timeout_s, record)
        return [
            one if isinstance(one, errors.AppError) else _classify(one, plan, options)
            for one in answers
        ]

    async def embed(
        self, image: bytes, options: EmbedOptions, timeout_s: float, record: Record
    ) -> Embedding:
        """Make the features of one image.

        Raises:
            AppError: see `app.errors`.
        """
        (answer,) = await self.embed_many([image], options, timeout_s, record)
        return _require(answer)

    async def embed_many(
        self, images: Sequence[bytes], options: EmbedOptions, timeout_s: float, record: Record
    ) -> list[Embedding | errors.AppError]:
        """Make the features of each image; one that is rejected fails alone."""
        plan = self.embed_plan(options)
        answers = await self.compute(list(map(ImageFile, images)), plan, timeout_s, record)
        return [
            one if isinstance(one, errors.AppError) else await _embed(one, plan, options)
            for one in answers
        ]

    def classify_plan(self, options: ClassifyOptions) -> Plan:
        """Plan a classification.

        Raises:
            ModelNotFoundError: there is no such model.
            NoClassifierError: the model has no classes.
            InvalidParameterError: it has fewer than are asked for.
        """
        engine = self.engine(options.model)
        classes = engine.checkpoint.config.num_labels
        if not classes:
            raise errors.NoClassifierError
        if options.top_k is not None and options.top_k > classes:
            raise errors.InvalidParameterError(f"top_k must be at most {classes} for this model.")
        return Plan(engine, frozenset({LOGITS}), options.size)

    def embed_plan(self, options: EmbedOptions) -> Plan:
        """Plan an embedding.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        return Plan(
            self.engine(options.model), options.outputs, options.size, options.output_stride
        )

    async def compute(
        self, images: Sequence[Image], plan: Plan, timeout_s: float, record: Record
    ) -> list[_Answer]:
        """Compute the outputs of each image; one that is rejected fails alone.

        Equal images are computed once, also when equal requests ask for them at the same time.

        Raises:
            AppError: of the request as a whole.
        """
        record.asked(plan.engine.checkpoint.name, len(images), sum(one.nbytes for one in images))
        started = time.perf_counter()
        keys = await create_keys(images, plan)
        answers: dict[Key, _Answer] = {key: found for key in keys if (found := self.cache.get(key))}
        hits = sum(key in answers for key in keys)
        missing = {key: one for key, one in zip(keys, images, strict=True) if key not in answers}
        misses = 0
        if missing:
            compute = partial(self._compute_and_keep, missing, plan)
            computed, shared = await self._flights.run(tuple(missing), compute, timeout_s)
            misses = 0 if shared else len(missing)
            waited_s = time.perf_counter() - started
            for key, one in computed.items():
                answers[key] = one.share(waited_s) if shared and isinstance(one, Outputs) else one
        shares = len(keys) - hits - misses
        for counter, count in zip(self._counts, (hits, misses, shares), strict=True):
            if count:
                counter.inc(count)
        outcome = [answers[key] for key in keys]
        if answered := [one for one in outcome if isinstance(one, Outputs)]:
            record.answered(**describe(answered))
        return outcome

    async def _compute_and_keep(
        self, images: Mapping[Key, Image], plan: Plan
    ) -> dict[Key, _Answer]:
        computed = await self.pipeline.run(list(images.values()), plan)
        for key, answer in zip(images, computed, strict=True):
            if isinstance(answer, Outputs):
                self.cache.put(key, answer.protect())
        return dict(zip(images, computed, strict=True))


def _require(answer: _T | errors.AppError) -> _T:
    if isinstance(answer, errors.AppError):
        raise answer
    return answer


def _classify(outputs: Outputs, plan: Plan, options: ClassifyOptions) -> Classification:
    checkpoint = plan.engine.checkpoint
    predictions = rank(outputs.arrays, checkpoint.labels, options)
    return Classification(
        checkpoint.name, predictions, outputs.stages, outputs.batch_size, outputs.cache
    )


async def _embed(outputs: Outputs, plan: Plan, options: EmbedOptions) -> Embedding:
    if plan.outputs == {POOLED}:
        layers = extract(outputs.arrays, options)
    else:  # maps are pooled here, which takes too long for the event loop
        layers = await asyncio.to_thread(extract, outputs.arrays, options)
    name = plan.engine.checkpoint.name
    return Embedding(name, layers, outputs.stages, outputs.batch_size, outputs.cache)
