"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.network.config import CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.network.config import ConvLayer


def fold(
    weights: Mapping[str, NDArray[np.float32]], layer: ConvLayer, epsilon: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One layer's kernel and bias, with its BatchNorm folded in.

    Folded in float64, as Jacob et al. do (https://arxiv.org/abs/1712.05877), and rounded once: the
    engines then differ by the order of their sums alone.

    Returns:
        Kernel of shape (out, in / groups, height, width) and bias of shape (out,).
    """
    kernel, gamma, beta, mean, variance = (
        weights[f"{layer.key}.{part}"].astype(np.float64)
        for part in (
            "convolution.weight",
            "normalization.weight",
            "normalization.bias",
            "normalization.running_mean",
            "normalization.running_var",
        )
    )
    factor = gamma / np.sqrt(variance + epsilon)
    folded = kernel * factor[:, None, None, None]
    return folded.astype(np.float32), (beta - mean * factor).astype(np.float32)


def unfold(
    layers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]], epsilon: float
) -> dict[str, NDArray[np.float32]]:
    """The weights of folded layers, each with a BatchNorm that only adds the bias.

    Args:
        layers: kernel (out, in / groups, height, width) and bias (out,) by the layer's key.
        epsilon: added to the variance.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for key, (kernel, bias) in layers.items():
        if key == CLASSIFIER:
            weights |= {f"{key}.weight": kernel[:, :, 0, 0], f"{key}.bias": bias}
            continue
        ones = np.ones(len(bias), np.float32)
        weights |= {
            f"{key}.convolution.weight": kernel,
            f"{key}.normalization.weight": ones,
            f"{key}.normalization.bias": bias,
            f"{key}.normalization.running_mean": np.zeros_like(ones),
            f"{key}.normalization.running_var": ones - np.float32(epsilon),
        }
    return weights
