from __future__ import annotations

import json
import threading
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine, warm_up
from model.engines.base import EngineOutput
from model.engines.warm_up import _GOLDEN, _create_images, check_engine, measure_speed
from model.errors import SelfTestError
from model.network.config import LOGITS
from tests.fakes import FakeEngine


def test_a_real_engine_passes_its_self_test_in_every_way_it_runs(checkpoint: Checkpoint) -> None:
    engine = load_engine(checkpoint, threads=2)
    with patch.object(engine, "run", wraps=engine.run) as run:
        check_engine(engine)
    ways = [(len(call.args[0]), call.kwargs.get("alone", True)) for call in run.call_args_list]
    assert ways == [(2, True), (2, False), (1, True)]


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


@pytest.mark.thorough
def test_the_known_answer_of_the_packaged_checkpoint_is_the_reference_engines(
    checkpoint: Checkpoint,
) -> None:
    golden = json.loads(_GOLDEN.read_bytes())[checkpoint.digest]
    reference = load_engine(checkpoint, name="torch")
    logits = reference.run(_create_images(reference, 1)).logits[0]
    assert [str(class_id) for class_id in np.argsort(-logits)[:5]] == list(golden)
    assert [logits[int(class_id)] for class_id in golden] == pytest.approx(
        list(golden.values()), abs=1e-4
    )


def test_an_engine_that_computes_something_else_is_not_trusted(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    kernel = "mobilenet_v1.layer.3.convolution.weight"
    weights[kernel] = weights[kernel][::-1].copy()  # sound values in the wrong order
    with pytest.raises(SelfTestError, match="wrong answer"):
        check_engine(load_engine(replace(checkpoint, weights=weights), threads=1))


class Stopwatch:
    """A clock that moves while an engine runs: by what a batch of its size takes, in seconds."""

    def __init__(self, engine: FakeEngine, **durations: float) -> None:
        self.now = 0.0
        self._lock = threading.Lock()
        self._durations = durations
        self._run = engine.run
        engine.run = self.run  # type: ignore[method-assign,assignment]  # what is measured is its time

    def __call__(self) -> float:
        return self.now

    def run(self, pixels: NDArray[np.uint8], *, alone: bool) -> EngineOutput:
        with self._lock:
            self.now += self._durations["whole" if alone else f"of_{len(pixels)}"]
        return self._run(pixels, alone=alone)


@pytest.mark.parametrize(
    ("durations", "chosen", "gain"),
    [
        ((10, 20, 40), 4, 1),
        ((10, 21.4, 46), 2, 1),
        ((10, 12, 18), 4, 10 / 4.5),
        ((10, 30, 60), 1, 1),
        ((50, 100, 1), 2, 1),
    ],
    ids=["no gain", "two within the tolerance", "four is best", "one is best", "no time for more"],
)
def test_the_largest_batch_near_the_best_cost_is_chosen(
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    durations: tuple[float, ...],
    chosen: int,
    gain: float,
) -> None:
    monkeypatch.setitem(warm_up._BATCH_SIZES, FakeEngine.device, (1, 2, 4))
    engine = FakeEngine(checkpoint)
    engine.streams = 2
    of = dict(zip(("of_1", "of_2", "of_4"), (ms / 6000 for ms in durations), strict=True))
    clock = Stopwatch(engine, **of, whole=1)
    speed = measure_speed(engine, clock=clock)
    assert speed.max_batch_size == chosen
    assert speed.images_per_s == pytest.approx(6000 / durations[0] * gain)


def test_a_batch_that_finds_no_memory_yet_is_timed_again(checkpoint: Checkpoint) -> None:
    engine = FakeEngine(checkpoint)
    engine.streams = 2
    clock = Stopwatch(engine, of_1=0.001, of_2=0.002, whole=1)
    cold = {1, 2}
    timed = engine.run

    def run(pixels: NDArray[np.uint8], *, alone: bool) -> EngineOutput:
        if len(pixels) in cold:
            cold.remove(len(pixels))
            clock.now += 0.01
        return timed(pixels, alone=alone)

    engine.run = run  # type: ignore[method-assign,assignment]  # as above
    assert measure_speed(engine, clock=clock).max_batch_size == 2


@pytest.mark.parametrize(
    ("whole_ms", "streams", "images_per_s"),
    [(8, 4, 100), (7, 1, 1000 / 7)],
    ids=["too little gained", "faster together"],
)
def test_fewer_streams_are_chosen_only_where_they_clearly_gain(
    checkpoint: Checkpoint, whole_ms: float, streams: int, images_per_s: float
) -> None:
    engine = FakeEngine(checkpoint)
    engine.streams = 4
    clock = Stopwatch(engine, of_1=0.01, of_2=1, whole=whole_ms / 1000)
    speed = measure_speed(engine, clock=clock)
    assert speed.streams == streams
    assert speed.images_per_s == pytest.approx(images_per_s)


def test_measuring_takes_no_longer_than_it_may(checkpoint: Checkpoint) -> None:
    engine = FakeEngine(checkpoint)
    engine.streams = 2
    clock = Stopwatch(engine, of_1=0.01, of_2=0.02, of_4=0.04, whole=0.015)
    measure_speed(engine, clock=clock)
    assert 0.15 < clock.now < 0.3


def test_what_is_set_by_hand_is_kept(checkpoint: Checkpoint) -> None:
    engine = FakeEngine(checkpoint)
    clock = Stopwatch(engine, of_1=0.01, of_2=0.02, whole=0.01)
    speed = measure_speed(engine, 64, 3, clock)
    assert (speed.max_batch_size, speed.streams) == (64, 3)
    assert max(len(batch) for batch in engine.batches) == 2


def test_a_real_engine_is_measured(checkpoint: Checkpoint) -> None:
    engine = load_engine(checkpoint, threads=2)
    speed = measure_speed(engine)
    assert speed.streams in {1, 2}
    assert speed.images_per_s > 0
