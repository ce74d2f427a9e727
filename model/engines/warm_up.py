"""Tests an engine and measures its speed before it serves."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.errors import SelfTestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from model.engines.base import Engine

_GOLDEN = Path(__file__).parents[1] / "weights" / "self_test.json"
"""Logits that packaged checkpoints must give the first image: by digest, then by class."""
_CLOSE = 1e-3
_BATCH_SIZES = {"cpu": (1, 2), "cuda": (1, 2, 4, 8, 16, 32, 64)}
"""On a CPU a batch of 4 gives 1 to 2 % more images a second than one of 2, and takes 90 MB more;
with maps asked for in between, memory then still grows after 10,000 requests.
"""
_TOLERANCE = 1.1
"""The largest batch whose cost for an image is within this factor of the best is chosen: it saves
the event loop more than that, and noise must not choose a smaller one.
"""
_BATCHES_S = 0.2
"""Seconds for batch sizes: one that would not end within them is not tried."""
_RUNS = 3
_STREAMS_S = 0.05
"""Seconds for numbers of streams; each is tried at least once."""
_GAIN = 1.3
"""Fewer streams must be faster by this factor: noise must not leave cores idle for good."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the warm-up measured.

    Attributes:
        max_batch_size: the largest batch whose cost for an image is near the best.
        streams: the number of concurrent batches that gives the most images a second.
        images_per_s: images of the checkpoint's own size a second, all streams together.
    """

    max_batch_size: int
    streams: int
    images_per_s: float


def check_engine(engine: Engine) -> None:
    """Run a known image in every way the engine has, which also warms it up.

    Raises:
        InvalidCheckpointError: the table of labels is missing or damaged.
        SelfTestError: shapes are wrong, values are not finite, the ways disagree, or the answer of
            a packaged checkpoint is not the known one.
    """
    config = engine.checkpoint.config
    if len(engine.checkpoint.labels) != config.num_labels:  # read here, not by the first request
        raise SelfTestError(f"{engine.checkpoint.name}: has not one label a class")
    batch = _create_images(engine, 2)
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
        if not np.allclose(answers[0], answers[1], rtol=_CLOSE, atol=_CLOSE):
            raise SelfTestError(f"{engine.checkpoint.name}: the self-test's answers disagree")
    golden = json.loads(_GOLDEN.read_bytes()).get(engine.checkpoint.digest, {})
    for class_id, logit in golden.items():
        if not np.isclose(rows[0].logits[0, int(class_id)], logit, rtol=_CLOSE, atol=_CLOSE):
            raise SelfTestError(f"{engine.checkpoint.name}: the self-test gave a wrong answer")


def measure_speed(
    engine: Engine,
    max_batch_size: int | None = None,
    streams: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time batches as streams would run them, and choose what is not given.

    Args:
        engine: already warm.
        max_batch_size: None chooses one.
        streams: None chooses: as many as the engine can use, half of them, or one with all threads.
        clock: in seconds.
    """
    sizes = _BATCH_SIZES[engine.device]
    if max_batch_size is not None:
        sizes = (min(max_batch_size, sizes[-1]),)
    costs = _time_batches(engine, sizes, clock)
    least = min(costs.values())
    chosen = max(size for size, cost in costs.items() if cost <= least * _TOLERANCE)
    counts = {engine.streams, max(1, engine.streams // 2), 1} if streams is None else {streams}
    rates = _time_streams(engine, sorted(counts, reverse=True), clock)
    most = max(rates, key=lambda count: rates[count] * (_GAIN if count == max(rates) else 1))
    # A rate is that of single images; a batch may cost less for each.
    gain = costs[1] / least if 1 in costs else 1
    return Speed(max_batch_size or chosen, most, rates[most] * gain)


def _time_batches(
    engine: Engine, sizes: Sequence[int], clock: Callable[[], float]
) -> dict[int, float]:
    """Seconds for an image in a batch of each size, while every other stream runs one like it.

    Alone, a large batch would have the cache to itself. Each runs several times, and the shortest
    time counts: the first runs allocate memory.
    """
    costs: dict[int, float] = {}
    with ThreadPoolExecutor(engine.streams) as pool:
        end = clock() + _BATCHES_S
        for size in sizes:
            if costs and clock() + _RUNS * size * min(costs.values()) > end:
                break
            run = partial(engine.run, _create_images(engine, size), alone=engine.streams == 1)
            times = [clock()]
            for _ in range(_RUNS):
                wait([pool.submit(run) for _ in range(engine.streams)])
                times.append(clock())
            shortest = min(after - before for before, after in pairwise(times))
            costs[size] = max(shortest, 1e-9) / size
    return costs


def _time_streams(
    engine: Engine, counts: Sequence[int], clock: Callable[[], float]
) -> dict[int, float]:
    """Images a second by the number of streams, measured in turns; the best of each."""
    image = _create_images(engine, 1)
    rates = dict.fromkeys(counts, 0.0)
    with ThreadPoolExecutor(max(counts)) as pool:
        end = clock() + _STREAMS_S
        while not all(rates.values()) or clock() < end:
            for count in counts:
                run = partial(engine.run, image, alone=count == 1)
                started = clock()
                wait([pool.submit(run) for _ in range(count)])
                duration = max(clock() - started, 1e-9)
                rates[count] = max(rates[count], count / duration)
    return rates


def _create_images(engine: Engine, count: int) -> NDArray[np.uint8]:
    """Gradients, each a little brighter, of the checkpoint's own size."""
    height, width = engine.checkpoint.preprocessing.input_size
    ramp = np.add.outer(*(np.arange(side).astype(np.uint8) for side in (height, width)))
    shifts = np.add.outer(10 * np.arange(count), 40 * np.arange(3)).astype(np.uint8)
    return ramp[..., None] + shifts[:, None, None]
