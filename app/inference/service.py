"""Answers requests: looks outputs up, computes what is missing, keeps it, and ranks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from app import errors
from app.inference.answers import (
    Answer,
    Arrays,
    Outputs,
    Predictions,
    Ranking,
    describe,
    extract,
    rank,
)
from app.inference.cache import Key, ResultCache
from app.inference.image import Image, ImageFile, digest
from app.inference.options import ClassifyOptions, EmbedOptions
from app.inference.pipeline import Pipeline
from app.inference.plan import Plan
from app.inference.single_flight import SingleFlight
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record
from model.engines.base import Engine
from model.network.config import LOGITS, POOLED

_Outcome = Outputs | errors.AppError


class Service:
    """Classifies and embeds images; each one that is rejected fails alone.

    Args:
        engines: of the served models, by name; the first is the default.
        max_output_bytes: of the numbers of one answer.

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
        self.cache = cache
        self.loaded_at = int(time.time())
        self._flights = SingleFlight[dict[Key, _Outcome]]()
        self._max_output_bytes = max_output_bytes
        self._metrics = metrics

    def engine(self, model: str | None) -> Engine:
        """Return the engine of a served model; of the first one if None.

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
        """Predict the shapes of an embedding by layer, without the axis of images.

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
        self, images: Sequence[bytes], options: ClassifyOptions, timeout_s: float, record: Record
    ) -> list[Answer[Predictions] | errors.AppError]:
        """Name the best classes of each image."""
        plan = self.classify_plan(options)
        name = plan.engine.checkpoint.name
        return [
            one if isinstance(one, errors.AppError) else one.answer(name, _rank(one, plan, options))
            for one in await self.compute(list(map(ImageFile, images)), plan, timeout_s, record)
        ]

    async def embed(
        self, images: Sequence[bytes], options: EmbedOptions, timeout_s: float, record: Record
    ) -> list[Answer[Arrays] | errors.AppError]:
        """Make the features of each image by layer, float32."""
        plan = self.embed_plan(options)
        name = plan.engine.checkpoint.name
        return [
            one
            if isinstance(one, errors.AppError)
            else one.answer(name, await _extract(one.arrays, options))
            for one in await self.compute(list(map(ImageFile, images)), plan, timeout_s, record)
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
        finish = partial(rank, labels=engine.checkpoint.labels, options=options)
        return Plan(engine, frozenset({LOGITS}), options.size, finish=finish)

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
    ) -> list[_Outcome]:
        """Compute the outputs of each image.

        Equal images are computed once, also when equal requests ask for them at the same time.

        Raises:
            AppError: of the request as a whole.
        """
        record.asked(plan.engine.checkpoint.name, len(images), sum(one.nbytes for one in images))
        started = time.perf_counter()
        # An image is a key itself for as long as it is here; to be kept, it is digested.
        keeps = self.cache.max_bytes > 0
        keys = [(content, plan) for content in (await digest(images) if keeps else images)]
        answers: dict[Key, _Outcome] = {
            key: found for key in keys if keeps and (found := self.cache.get(key))
        }
        hits = sum(key in answers for key in keys) if answers else 0
        missing = {key: one for key, one in zip(keys, images, strict=True) if key not in answers}
        misses = 0
        if missing:
            compute = partial(self._compute_and_keep, missing, plan)
            computed, shared = await self._flights.run(tuple(missing), compute, timeout_s)
            misses = 0 if shared else len(missing)
            waited_s = time.perf_counter() - started
            for key, one in computed.items():
                answers[key] = one.share(waited_s) if shared and isinstance(one, Outputs) else one
        self._metrics.record_cache(hit=hits, miss=misses, shared=len(keys) - hits - misses)
        outcomes = [answers[key] for key in keys]
        if answered := [one for one in outcomes if isinstance(one, Outputs)]:
            record.answered(**describe(answered))
        return outcomes

    async def _compute_and_keep(
        self, images: Mapping[Key, Image], plan: Plan
    ) -> dict[Key, _Outcome]:
        computed = await self.pipeline.run(list(images.values()), plan)
        answers = dict(zip(images, computed, strict=True))
        for key, answer in answers.items():
            if isinstance(answer, Outputs):
                self.cache.put(key, answer.protect())
        return answers


def _rank(outputs: Outputs, plan: Plan, options: ClassifyOptions) -> Predictions:
    """Return the ranking that came with the outputs, or rank those of another request."""
    ranking: Ranking | None = outputs.finished
    if ranking is None or ranking.options != options:
        ranking = rank(outputs.arrays, plan.engine.checkpoint.labels, options)
    return ranking.predictions


async def _extract(arrays: Arrays, options: EmbedOptions) -> Arrays:
    if options.outputs == {POOLED}:
        return extract(arrays, options)
    # Maps are pooled here, which takes too long for the event loop.
    return await asyncio.to_thread(extract, arrays, options)
