"""What the service answers of one image, before a protocol shapes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from model.checkpoints.labels import Label
from model.network.scores import Activation

CacheOutcome = Literal["hit", "shared", "miss"]
"""An answer was kept, was being computed for another request, or was computed for this one."""

RankingQuestion = tuple[int, float | None, Activation]
"""How many classes, the least score, and the activation."""
Ranked = Sequence[tuple[int, float]]
"""Class ids with their scores, best first."""

_Answer = TypeVar("_Answer")

_KEPT_CLASSES: Final = 10
"""Of more, a ranking would take more memory than the outputs."""


def require_all(answers: Sequence[_Answer | AppError], places: Sequence[str]) -> list[_Answer]:
    """The answers of all images, for a protocol that has no room for one image's error.

    Args:
        answers: one an image, in the order sent.
        places: of the images in the request.

    Raises:
        AppError: of the first image that has one; of several images, its sentence says which.
    """
    good: list[_Answer] = []
    for answer, place in zip(answers, places, strict=True):
        if isinstance(answer, AppError):
            raise answer.at(place) if len(answers) > 1 else answer
        good.append(answer)
    return good


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a request's time went for one image, in seconds: nowhere if its answer was kept.

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
    """What an image came as: `jpeg`, `png`, ... or `pixels`; its size in pixels, as it was sent."""

    format: str
    width: int
    height: int


class Ranking:
    """An image's best classes as they were last asked for: a kept one is asked the same again."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[RankingQuestion, Ranked] | None = None

    def find(self, question: RankingQuestion, rank: Callable[[], Ranked]) -> Ranked:
        """The best classes; `rank` finds them if the last question was another one."""
        if (last := self._last) and last[0] == question:
            return last[1]
        best = rank()
        if len(best) <= _KEPT_CLASSES:
            self._last = question, best
        return best


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the engine says of one image: its outputs by name; see `BatchRow.arrays`."""

    arrays: Mapping[str, NDArray[np.float32]]
    stages: Stages
    batch_size: int
    source: Source
    cache: CacheOutcome = "miss"
    ranking: Ranking = field(default_factory=Ranking)


def describe(answers: Sequence[Outputs | AppError]) -> dict[str, Any]:
    """The facts for a request's log line: of several images, the longest of each stage."""
    outputs = [answer for answer in answers if isinstance(answer, Outputs)]
    if not outputs:
        return {}
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
    """One image's features by layer, float32, in the order asked for; shapes as `Feature.shape`."""

    model: str
    layers: Mapping[str, NDArray[np.float32]]
    stages: Stages
    batch_size: int
    cache: CacheOutcome
