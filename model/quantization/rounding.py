"""Rounds kernels to levels so that a layer's sums stay near those of the float network.

Frantar et al., "GPTQ", https://arxiv.org/abs/2210.17323: inputs that go together make up for each
other's rounding. Nagel et al., "Data-Free Quantization", https://arxiv.org/abs/1906.04721: the bias
takes what the mean of the inputs makes of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.network.quantization import QuantizationParameters, QuantizedLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.quantization.calibration import Moments

_ZERO_POINT = 128
_MAX_MAGNITUDE = 127
_MAX_BIAS = 2**30
"""Of int32: what is left is for the sums."""
_DAMPING = 0.01
"""Of the mean variance, added to each: few images do not tell every variance."""
_LEAST_SCALE = 1e-9


def round_layer(
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    seen: Moments,
    source: QuantizationParameters,
    target: QuantizationParameters,
) -> QuantizedLayer:
    """Quantize one layer with a scale for each channel.

    Args:
        kernel: (out, in / groups, height, width), BatchNorm folded in.
        bias: (out,), likewise.
        seen: of the layer's inputs.
        source: levels of its input.
        target: levels of its output.
    """
    rows = kernel.reshape(len(kernel), -1).astype(np.float64)
    least = np.abs(bias) / (_MAX_BIAS * source.scale)
    scales = np.maximum(np.abs(rows).max(axis=1) / _MAX_MAGNITUDE, least)
    scales = np.maximum(scales, _LEAST_SCALE).astype(np.float32)
    by_group = rows.reshape(len(seen.mean), -1, rows.shape[1])
    steps = scales.astype(np.float64).reshape(*by_group.shape[:2])
    levels = round_rows(by_group, steps, seen.covariance)
    missing = by_group - levels * steps[:, :, None]
    corrected = bias + np.einsum("goi,gi->go", missing, seen.mean).reshape(-1)
    units = np.clip(np.round(corrected / (steps.reshape(-1) * source.scale)), -_MAX_BIAS, _MAX_BIAS)
    return QuantizedLayer(
        (levels.reshape(kernel.shape) + _ZERO_POINT).astype(np.uint8),
        scales,
        _ZERO_POINT,
        units.astype(np.int32),
        input=source,
        output=target,
    )


def round_rows(
    rows: NDArray[np.float64], steps: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Round one input's weight after the other; those that follow make up for its error.

    Args:
        rows: (groups, outputs, inputs).
        steps: of one level, (groups, outputs).
        covariance: of the inputs, (groups, inputs, inputs).

    Returns:
        Whole numbers of at most `_MAX_MAGNITUDE` either way, shaped as `rows`.
    """
    count = rows.shape[2]
    variances = np.einsum("gii->gi", covariance)
    damping = _DAMPING * variances.mean(axis=1) + np.finfo(np.float32).tiny
    damped = covariance + np.eye(count) * damping[:, None, None]
    order = np.argsort(-variances, axis=1)  # the first have the most to make up for them
    damped = np.take_along_axis(damped, order[:, :, None], axis=1)
    damped = np.take_along_axis(damped, order[:, None, :], axis=2)
    rest = np.take_along_axis(rows, order[:, None, :], axis=2)
    factors = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    levels = np.zeros_like(rest)
    for index in range(count):
        level = np.clip(np.round(rest[:, :, index] / steps), -_MAX_MAGNITUDE, _MAX_MAGNITUDE)
        error = (rest[:, :, index] - level * steps) / factors[:, None, index, index]
        rest[:, :, index + 1 :] -= error[:, :, None] * factors[:, None, index, index + 1 :]
        levels[:, :, index] = level
    back: NDArray[np.float64] = np.take_along_axis(
        levels, np.argsort(order, axis=1)[:, None, :], axis=2
    )
    return back
