"""BatchNorm folded into the convolution before it, for every engine that runs floating point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer


def fold(
    checkpoint: Checkpoint, layer: ConvLayer
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One layer's kernel and bias, with its BatchNorm folded in.

    Folded in float64, as Jacob et al. do (https://arxiv.org/abs/1712.05877), and rounded once: the
    engines then differ by the order of their sums alone.

    Returns:
        Kernel of shape (out, in / groups, h, w) and bias of shape (out,).
    """
    kernel, gamma, beta, mean, variance = (
        checkpoint.weights[f"{layer.key}.{part}"].astype(np.float64)
        for part in (
            "convolution.weight",
            "normalization.weight",
            "normalization.bias",
            "normalization.running_mean",
            "normalization.running_var",
        )
    )
    factor = gamma / np.sqrt(variance + checkpoint.config.layer_norm_eps)
    folded = kernel * factor[:, None, None, None]
    return folded.astype(np.float32), (beta - mean * factor).astype(np.float32)
