"""Runs one batch of images that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import SpanContext

from app.errors import AppError, ModelOutputInvalidError, OutOfMemoryError
from app.inference.plan import Plan
from model.engines.base import EngineOutput


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One image's row of its batch, and what the batch cost.

    Attributes:
        arrays: the wanted outputs by name; `logits` (classes,), `pooled` (channels,), and maps by
            their end points, (height, width, channels).
        started: when the batch started, in seconds on the caller's clock.
        inference_s: how long the whole batch ran, in seconds.
        finished: what `Plan.finish` made of the arrays.
        span: the batch's, if it is traced.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    started: float
    inference_s: float
    batch_size: int
    finished: Any = None
    span: SpanContext | None = None


Outcome = BatchRow | AppError


@dataclass(frozen=True, slots=True, eq=False)
class BatchItem:
    """One image for a batch: its pixels, (height, width, channels), and what to compute."""

    plan: Plan
    pixels: NDArray[np.uint8]


def run_batch(
    items: Sequence[BatchItem],
    *,
    alone: bool,
    now: Callable[[], float],
    span: SpanContext | None = None,
) -> list[Outcome]:
    """Compute each item of a batch; split what fails until only the guilty fail.

    The batch runs as deep as its deepest wanted output. An unexpected failure is the `__cause__` of
    its outcome.

    Returns:
        One outcome an item, in order.
    """
    plan = items[0].plan
    started = now()
    try:
        output = plan.engine.run(
            # A single image need not be copied.
            items[0].pixels[None] if len(items) == 1 else np.stack([one.pixels for one in items]),
            frozenset().union(*(item.plan.outputs for item in items)),
            output_stride=plan.output_stride,
            alone=alone,
        )
        if set(map(len, output.arrays.values())) == {len(items)}:
            return _read_rows(items, output, started, now() - started, span)
        failure: Exception = ModelOutputInvalidError()
    except Exception as error:  # noqa: BLE001  # any failure may be the fault of one image
        failure = error
    try:
        if len(items) == 1:
            return [_translate(failure)]
    finally:
        del failure  # its traceback holds this frame
    middle = len(items) // 2
    halves = items[:middle], items[middle:]
    return [one for half in halves for one in run_batch(half, alone=alone, now=now, span=span)]


def _read_rows(
    items: Sequence[BatchItem],
    output: EngineOutput,
    started: float,
    inference_s: float,
    span: SpanContext | None,
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for index, item in enumerate(items):
        arrays = {name: output.arrays[name][index] for name in item.plan.outputs}
        if not all(np.isfinite(values).all() for values in arrays.values()):
            outcomes.append(ModelOutputInvalidError())
            continue
        finished = item.plan.finish(arrays)
        outcomes.append(BatchRow(arrays, started, inference_s, len(items), finished, span))
    return outcomes


def _translate(failure: Exception) -> AppError:
    if isinstance(failure, AppError):
        return failure
    if isinstance(failure, MemoryError):
        return OutOfMemoryError()
    error = AppError()
    error.__cause__ = failure
    return error
