"""One batch: entries in, an outcome for each out; strangers to one another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import SpanContext

from app.errors import AppError, ModelOutputInvalidError, OutOfMemoryError
from model.engines.base import Engine, EngineOutput

_log = logging.getLogger(__name__)

_USUAL_PIXELS = 224 * 224


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One entry's row of its batch, and what the batch cost.

    Attributes:
        arrays: the wanted outputs by name; `logits` (classes,), `pooled` (channels,), and maps by
            their end points, (height, width, channels).
        queue_s: from submission until the batch started, in seconds.
        inference_s: how long the whole batch ran, in seconds.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    queue_s: float
    inference_s: float
    batch_size: int


@dataclass(eq=False, slots=True)
class Entry:
    """One image that waits for a batch.

    Attributes:
        outputs: names of the engine's outputs that it wants.
        output_stride: see `MobileNetV1Config.layers_at`.
        answer: what its caller awaits.
        pixels: (height, width, channels), once they are here.
        submitted: when they came, in seconds on the batcher's clock.
        request: see `app.telemetry.traces.Traced`.
        batch: as well.
    """

    engine: Engine
    outputs: frozenset[str]
    output_stride: int
    answer: asyncio.Future[BatchRow]
    request: SpanContext | None = None
    batch: SpanContext | None = field(init=False, default=None)
    pixels: NDArray[np.uint8] = field(init=False)
    submitted: float = field(init=False)

    def can_join(self, other: Entry) -> bool:
        """Whether the two may be in one batch."""
        return (
            self.engine is other.engine
            and self.output_stride == other.output_stride
            and self.pixels.shape == other.pixels.shape
        )

    def limit(self, max_batch_size: int) -> int:
        """How many like it a batch may hold: the memory of so many usual images, or it alone."""
        height, width, _ = self.pixels.shape
        work: int = height * width * (32 // self.output_stride) ** 2
        return max(1, min(max_batch_size, max_batch_size * _USUAL_PIXELS // max(1, work)))

    def settle(self, outcome: BatchRow | BaseException) -> None:
        """Give its caller the outcome, if the caller still waits. Only on the event loop."""
        if self.answer.done():
            return
        if isinstance(outcome, BatchRow):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)


Outcome = BatchRow | AppError


def run_batch(
    entries: Sequence[Entry], *, alone: bool, now: Callable[[], float]
) -> list[tuple[Entry, Outcome]]:
    """Compute entries that can join each other; halve what fails until only the guilty fail.

    The batch runs as deep as its deepest wanted output.

    Args:
        entries: at least one, all of one engine and shape.
        alone: see `Engine.run`.
        now: clock in seconds.
    """
    started = now()
    try:
        output = entries[0].engine.run(
            _stack(entries),
            frozenset().union(*(entry.outputs for entry in entries)),
            output_stride=entries[0].output_stride,
            alone=alone,
        )
        if _has_rows(output, len(entries)):
            return _rows(entries, output, started, now() - started)
        failure: Exception = ModelOutputInvalidError()
    except Exception as error:  # noqa: BLE001  # whatever it was, it may be one entry's fault
        failure = error
    if len(entries) == 1:
        return [(entries[0], _translate(failure))]
    middle = len(entries) // 2
    halves = entries[:middle], entries[middle:]
    return [outcome for half in halves for outcome in run_batch(half, alone=alone, now=now)]


def _stack(entries: Sequence[Entry]) -> NDArray[np.uint8]:
    if len(entries) == 1:  # no need to copy it
        return entries[0].pixels[None]
    return np.stack([entry.pixels for entry in entries])


def _has_rows(output: EngineOutput, count: int) -> bool:
    return set(map(len, output.arrays.values())) == {count}


def _rows(
    entries: Sequence[Entry], output: EngineOutput, started: float, inference_s: float
) -> list[tuple[Entry, Outcome]]:
    outcomes: list[tuple[Entry, Outcome]] = []
    for index, entry in enumerate(entries):
        row = BatchRow(
            {name: output.arrays[name][index] for name in entry.outputs},
            queue_s=started - entry.submitted,
            inference_s=inference_s,
            batch_size=len(entries),
        )
        finite = all(np.isfinite(values).all() for values in row.arrays.values())
        outcomes.append((entry, row if finite else ModelOutputInvalidError()))
    return outcomes


def _translate(failure: Exception) -> AppError:
    if isinstance(failure, AppError):
        return failure
    if isinstance(failure, MemoryError):
        return OutOfMemoryError()
    _log.error("The engine failed on an image.", exc_info=failure)
    return AppError()
