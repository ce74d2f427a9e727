"""Outputs of images, and the answers made of them, before a protocol shapes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.inference.options import DEFAULT_TOP_K, ClassifyOptions, EmbedOptions
from model.checkpoints.labels import Label
from model.network.config import LOGITS
from model.network.features import normalize
from model.network.scores import activate, top_k

CacheOutcome = Literal["hit", "shared", "miss"]
"""An answer was kept, was being computed for another request, or was computed for this one."""

Arrays = Mapping[str, NDArray[np.float32]]
"""An image's outputs or features by name; shapes as in `BatchRow` and `Feature.shape`."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a request's time went for one image, in seconds.

    Attributes:
        decode_s: in a decode thread, from bytes to pixels.
        queue_s: waiting, for a decode thread and for a batch, or for an answer that is shared.
        inference_s: in its batch.
    """

    decode_s: float
    queue_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class Source:
    """What an image came as: `jpeg`, `png`, ... or `pixels`; its size in pixels, as sent."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What a model says of one image.

    Attributes:
        model: its name.
    """

    model: str
    content: _T
    stages: Stages
    batch_size: int
    cache: CacheOutcome


Predictions = list[tuple[Label, float]]
"""The best classes with their scores, best first."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The engine's outputs of one image.

    Attributes:
        finished: what `Plan.finish` made of them for the request that had them computed.
    """

    arrays: Arrays
    stages: Stages
    batch_size: int
    source: Source
    cache: CacheOutcome = "miss"
    finished: Any = None

    def protect(self) -> Self:
        """Make the arrays read-only, as several callers share them."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self

    def share(self, waited_s: float) -> Outputs:
        """Create the outputs of a caller that waited for another's computation."""
        return replace(self, stages=Stages(0.0, waited_s, 0.0), cache="shared")

    def answer(self, model: str, content: _T) -> Answer[_T]:
        """Create the answer whose content was made of these arrays."""
        return Answer(model, content, self.stages, self.batch_size, self.cache)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best classes of an image, as these options ask for them."""

    options: ClassifyOptions
    predictions: Predictions


def rank(arrays: Arrays, labels: Sequence[Label], options: ClassifyOptions) -> Ranking:
    """Find the best classes in an image's logits."""
    scores = activate(arrays[LOGITS], options.activation)
    min_score = options.min_score or -math.inf  # logits may be negative
    best = top_k(scores, options.top_k or DEFAULT_TOP_K, min_score)
    return Ranking(options, [(labels[class_id], score) for class_id, score in best])


def extract(arrays: Arrays, options: EmbedOptions) -> dict[str, NDArray[np.float32]]:
    """Make the features of an image's outputs, by layer in the order asked for."""
    layers = {feature.layer: feature.extract(arrays) for feature in options.features}
    if options.normalize:
        return {name: normalize(array) for name, array in layers.items()}
    return layers


def require_all(answers: Sequence[_T | AppError], places: Sequence[str] = ("",)) -> list[_T]:
    """Return the answers of all images, where one image's error is the request's.

    Raises:
        AppError: the first one; of several images, its text names the image's place.
    """
    good: list[_T] = []
    for answer, place in zip(answers, places, strict=True):
        if isinstance(answer, AppError):
            raise answer.at(place) if len(answers) > 1 else answer
        good.append(answer)
    return good


def describe(outputs: Sequence[Outputs]) -> dict[str, Any]:
    """Describe outputs for a request's log line: of several, by the longest of each stage."""
    first = outputs[0]
    if len(outputs) == 1:
        source, stages = first.source, first.stages
        size = {"width": source.width, "height": source.height}
        facts: dict[str, Any] = {"format": source.format, **size, "cache": first.cache}
    else:
        all_stages = [one.stages for one in outputs]
        stages = Stages(
            max(one.decode_s for one in all_stages),
            max(one.queue_s for one in all_stages),
            max(one.inference_s for one in all_stages),
        )
        facts = {"answered": len(outputs)}
    return {
        **facts,
        "batch_size": max(one.batch_size for one in outputs),
        "decode_ms": round(stages.decode_s * 1000, 2),
        "queue_ms": round(stages.queue_s * 1000, 2),
        "inference_ms": round(stages.inference_s * 1000, 2),
    }
