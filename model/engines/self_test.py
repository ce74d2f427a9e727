"""Tests an engine before it serves, and warms it up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.errors import SelfTestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.engines.base import Engine

_GOLDEN = Path(__file__).parents[1] / "weights" / "self_test.json"
"""Logits that packaged checkpoints must give the first image: by digest, then by class."""
_CLOSE = 1e-3


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


def _create_images(engine: Engine, count: int) -> NDArray[np.uint8]:
    """Gradients, each a little brighter, of the checkpoint's own size."""
    height, width = engine.checkpoint.preprocessing.input_size
    ramp = np.add.outer(*(np.arange(side).astype(np.uint8) for side in (height, width)))
    shifts = np.add.outer(10 * np.arange(count), 40 * np.arange(3)).astype(np.uint8)
    return ramp[..., None] + shifts[:, None, None]
