"""What happens to an engine before it is trusted: a self-test, and a measurement of its speed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import SelfTestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from model.engines.base import Engine

_BATCH_SIZES = (1, 2, 4, 8)
_TOLERANCE = 1.03
"""The largest batch whose cost an image is within this factor of the best is chosen."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the warm-up measured.

    Attributes:
        max_batch_size: the largest batch whose cost an image is near the best.
        images_per_s: default images a second, all streams together.
    """

    max_batch_size: int
    images_per_s: float


def check_engine(engine: Engine) -> None:
    """Run a known picture in every way the engine has, which also warms it up.

    Raises:
        SelfTestError: the shapes are wrong, values are not finite, or the ways disagree.
    """
    config = engine.checkpoint.config
    batch = _pictures(engine, 2)
    rows = [engine.run(batch, alone=alone) for alone in (True, False)]
    rows.append(engine.run(batch[:1]))
    for output in rows:
        count = len(output.pooled)
        if (
            output.pooled.shape != (count, config.num_features)
            or (config.num_labels and output.logits.shape != (count, config.num_labels))
            or not all(np.isfinite(array).all() for array in output.arrays.values())
        ):
            raise SelfTestError(f"{engine.checkpoint.name}: the self-test gave no valid answer")
        answers = [
            one.logits[0] if config.num_labels else one.pooled[0] for one in (output, rows[0])
        ]
        if not np.allclose(answers[0], answers[1], rtol=1e-3, atol=1e-3):
            raise SelfTestError(f"{engine.checkpoint.name}: the self-test's answers disagree")


def measure_speed(
    engine: Engine,
    max_batch_size: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time batches of default images as a stream would run them among others.

    Args:
        engine: already warm.
        max_batch_size: taken as it is; None chooses one.
        clock: in seconds.
    """
    sizes = _BATCH_SIZES if max_batch_size is None else (min(max_batch_size, _BATCH_SIZES[-1]),)
    costs = {}
    for size in sizes:
        batch = _pictures(engine, size)
        started = clock()
        engine.run(batch, alone=engine.streams == 1)
        costs[size] = max(clock() - started, 1e-9) / size
    best = min(costs.values())
    chosen = max(size for size, cost in costs.items() if cost <= best * _TOLERANCE)
    return Speed(max_batch_size or chosen, engine.streams / best)


def _pictures(engine: Engine, count: int) -> NDArray[np.uint8]:
    """Pictures of a gradient, each a little brighter, of the checkpoint's own size."""
    height, width = engine.checkpoint.preprocessing.input_size
    ramp = np.add.outer(np.arange(height), np.arange(width))
    plane = ramp[..., None] + 40 * np.arange(3)
    return np.stack([(plane + 10 * number) % 256 for number in range(count)]).astype(np.uint8)
