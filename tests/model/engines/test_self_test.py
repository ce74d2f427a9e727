from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.engines.base import EngineOutput
from model.engines.self_test import _GOLDEN, _create_images, check_engine
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
