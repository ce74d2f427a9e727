"""Computes outputs by name, of many images at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidParameterError, NoClassifierError
from app.inference.answers import CacheOutcome, require_all
from app.inference.image import PIXELS, Image
from app.inference.plan import Plan
from app.inference.service import Service
from app.telemetry.record import Record
from model.engines.base import Engine
from model.network.config import LOGITS, POOLED
from model.network.scores import softmax

PROBABILITIES: Final = "probabilities"
EMBEDDING: Final = "embedding"
_SOURCES: Final = {PROBABILITIES: LOGITS, LOGITS: LOGITS, EMBEDDING: POOLED}


def output_widths(engine: Engine) -> Mapping[str, int]:
    """Return how many numbers each output of a model has, by name."""
    config = engine.checkpoint.config
    classes = config.num_labels
    widths = {PROBABILITIES: classes, LOGITS: classes, EMBEDDING: config.num_features}
    return {name: width for name, width in widths.items() if width}


def check_outputs(engine: Engine, names: Sequence[str], classified: Collection[str]) -> None:
    """Check that a model has these outputs.

    Args:
        engine: of the model.
        names: of the requested outputs.
        classified: names of those whose best classes are requested.

    Raises:
        NoClassifierError: an output is about classes, and the model has none.
        InvalidParameterError: an output is unknown, has no classes, or is named twice.
    """
    if set(names) - set(_SOURCES):
        known = ", ".join(f"`{name}`" for name in output_widths(engine))
        raise InvalidParameterError(f"outputs: An output is one of {known}.", "outputs")
    if set(names) - set(output_widths(engine)):
        raise NoClassifierError
    if EMBEDDING in classified:
        detail = f"outputs: `{EMBEDDING}` has no classes; leave out its `classification`."
        raise InvalidParameterError(detail, "outputs")
    if len(set(names)) < len(names):
        raise InvalidParameterError("outputs: An output is named twice.", "outputs")


async def infer(
    service: Service,
    engine: Engine,
    images: Sequence[Image],
    names: Collection[str],
    *,
    timeout_s: float,
    record: Record,
) -> tuple[Mapping[str, NDArray[np.float32]], list[CacheOutcome]]:
    """Compute outputs of images, one row for each image; also tell where each was found.

    Args:
        service: does the work.
        engine: of the model.
        images: at least one.
        names: of the outputs; see `check_outputs`.
        timeout_s: until the answer is of no use.
        record: of the request.

    Raises:
        AppError: of the whole request, or of the first image that failed, which the message names.
    """
    plan = Plan(engine, frozenset(_SOURCES[name] for name in names))
    answers = await service.compute(images, plan, timeout_s, record)
    rows = require_all(answers, list(_places(images)))
    arrays = {name: np.stack([row.arrays[_SOURCES[name]] for row in rows]) for name in names}
    if PROBABILITIES in arrays:
        arrays[PROBABILITIES] = softmax(arrays[PROBABILITIES])
    return arrays, [row.cache for row in rows]


def _places(images: Iterable[Image]) -> Iterator[str]:
    """Name the place of each image: a request has at most one tensor of files and one of pixels."""
    seen = Counter[str]()
    for image in images:
        name = PIXELS if image.format == PIXELS else "image"
        yield f"{name}[{seen[name]}]"
        seen[name] += 1
