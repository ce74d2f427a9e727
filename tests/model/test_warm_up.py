from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from model.checkpoint import Checkpoint
from model.config import LOGITS
from model.engines import load_engine
from model.engines.base import EngineOutput
from model.engines.warm_up import check_engine, measure_speed
from model.errors import SelfTestError
from tests.fakes import FakeEngine


def clock(*durations: float) -> Iterator[float]:
    """The times before and after each measured batch."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


def test_a_real_engine_passes_its_self_test(checkpoint: Checkpoint) -> None:
    check_engine(load_engine(checkpoint, threads=2))


@pytest.mark.parametrize("defect", ["nan", "rows", "classes", "ways"])
def test_an_engine_without_valid_answers_is_not_trusted(
    checkpoint: Checkpoint, defect: str
) -> None:
    engine = FakeEngine(checkpoint)

    def spoil(output: EngineOutput) -> EngineOutput:
        logits = output.logits.copy()
        if defect == "nan":
            logits[0, 0] = np.nan
        elif defect == "rows":
            logits = logits[:1]
        elif defect == "classes":
            logits = logits[:, 1:]
        elif not engine.alone[-1]:
            logits += 1
        return EngineOutput({**output.arrays, LOGITS: logits})

    check_engine(engine)
    engine.shape = spoil
    with pytest.raises(SelfTestError):
        check_engine(engine)


@pytest.mark.parametrize(
    ("durations", "chosen", "images_per_s"),
    [
        ((10, 20, 40, 80), 8, 0.2),
        ((10, 20.4, 44, 96), 2, 0.2),
        ((10, 12, 18, 40), 4, 2 / 4.5),
        ((10, 30, 60, 120), 1, 0.2),
    ],
    ids=["no gain, no loss", "two within the tolerance", "four is best", "one is best"],
)
def test_the_largest_batch_near_the_best_cost_is_chosen(
    checkpoint: Checkpoint, durations: tuple[float, ...], chosen: int, images_per_s: float
) -> None:
    ticks = clock(*durations)
    speed = measure_speed(FakeEngine(checkpoint), clock=lambda: next(ticks))
    assert speed.max_batch_size == chosen
    assert speed.images_per_s == pytest.approx(images_per_s)


def test_a_batch_size_set_by_hand_is_kept(checkpoint: Checkpoint) -> None:
    engine = FakeEngine(checkpoint)
    assert measure_speed(engine, 64).max_batch_size == 64
    assert [len(batch) for batch in engine.batches] == [8]
