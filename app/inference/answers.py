"""Outputs of images, and the answers made of them, before a protocol shapes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

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
class Outputs:
    """The engine's outputs of one image."""

    arrays: Arrays
    stages: Stages
    batch_size: int
    source: Source
    cache: CacheOutcome = "miss"

    def protect(self) -> Self:
        """Make the arrays read-only, as several callers share them."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self

    def share(self, waited_s: float) -> Outputs:
        """The same for a caller that waited for another's computation."""
        waited = Stages(0.0, waited_s, 0.0)
        return Outputs(self.arrays, waited, self.batch_size, self.source, "shared")


@dataclass(frozen=True, slots=True)
class Classification:
    """The best classes of one image with their scores, best first."""

    model: str
    predictions: Sequence[tuple[Label, float]]
    stages: Stages
    batch_size: int
    cache: CacheOutcome


@dataclass(frozen=True, slots=True)
class Embedding:
    """One image's features by layer, float32, in the order asked for."""

    model: str
    layers: Arrays
    stages: Stages
    batch_size: int
    cache: CacheOutcome


def rank(
    arrays: Arrays, labels: Sequence[Label], options: ClassifyOptions
) -> list[tuple[Label, float]]:
    """Find the best classes in an image's logits, best first."""
    scores = activate(arrays[LOGITS], options.activation)
    min_score = options.min_score or -math.inf  # logits may be negative
    best = top_k(scores, options.top_k or DEFAULT_TOP_K, min_score)
    return [(labels[class_id], score) for class_id, score in best]


def extract(arrays: Arrays, options: EmbedOptions) -> dict[str, NDArray[np.float32]]:
    """Make the features of an image's outputs, by layer; float32."""
    layers = {feature.layer: feature.extract(arrays) for feature in options.features}
    if options.normalize:
        return {name: normalize(array) for name, array in layers.items()}
    return layers


def require_all(answers: Sequence[_T | AppError], places: Sequence[str]) -> list[_T]:
    """The answers of all images, for a protocol that cannot carry one image's error.

    Args:
        answers: one an image, in the order sent.
        places: of the images in the request.

    Raises:
        AppError: the first image's that has one; of several images, its text names the place.
    """
    good: list[_T] = []
    for answer, place in zip(answers, places, strict=True):
        if isinstance(answer, AppError):
            raise answer.at(place) if len(answers) > 1 else answer
        good.append(answer)
    return good


def describe(outputs: Sequence[Outputs]) -> dict[str, Any]:
    """The facts for a request's log line: of several images, the longest of each stage."""
    stages = [one.stages for one in outputs]
    facts = {
        "batch_size": max(one.batch_size for one in outputs),
        "decode_ms": _ms(max(one.decode_s for one in stages)),
        "queue_ms": _ms(max(one.queue_s for one in stages)),
        "inference_ms": _ms(max(one.inference_s for one in stages)),
    }
    if len(outputs) > 1:
        return {"answered": len(outputs), **facts}
    (one,) = outputs
    source = one.source
    size = {"width": source.width, "height": source.height}
    return {"format": source.format, **size, "cache": one.cache, **facts}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
