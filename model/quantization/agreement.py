"""Compares a quantized network with the float one, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.engines import load_engine
from model.network.scores import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

_BATCH_SIZE = 2
CLEAR_LEAD = 0.05
"""Of the best class's score: where two are nearer, either answer is as good."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often, and how nearly, two networks give the same answer.

    Attributes:
        images: that both answered.
        same: of them have the same best class.
        clear: of them have a best class that leads by `CLEAR_LEAD` in the float network.
        same_clear: of those have the same best class.
        mean_difference: of the score that each gives the float network's best class.
        max_difference: likewise.
    """

    images: int
    same: int
    clear: int
    same_clear: int
    mean_difference: float
    max_difference: float

    @property
    def share(self) -> float:
        """Of the images, those with the same best class."""
        return self.same / self.images


def compare(
    reference: Checkpoint, other: Checkpoint, pixels: NDArray[np.uint8], threads: int
) -> Agreement:
    """Run two classifiers on preprocessed images, (n, height, width, 3)."""
    expected, actual = (_classify(one, pixels, threads) for one in (reference, other))
    best = expected.argmax(axis=1)
    same = actual.argmax(axis=1) == best
    rows = np.arange(len(best))
    others = expected.copy()
    others[rows, best] = 0
    clear = expected[rows, best] - others.max(axis=1) >= CLEAR_LEAD
    differences = np.abs(expected[rows, best] - actual[rows, best])
    return Agreement(
        len(best),
        int(same.sum()),
        int(clear.sum()),
        int(same[clear].sum()),
        float(differences.mean()),
        float(differences.max()),
    )


def _classify(
    checkpoint: Checkpoint, pixels: NDArray[np.uint8], threads: int
) -> NDArray[np.float32]:
    engine = load_engine(checkpoint, name="onnx", device="cpu", threads=threads)
    batches = (pixels[start : start + _BATCH_SIZE] for start in range(0, len(pixels), _BATCH_SIZE))
    return softmax(np.concatenate([engine.run(batch).logits for batch in batches]))
