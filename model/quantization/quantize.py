"""Chooses the levels of a float checkpoint."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from model.network.config import CLASSIFIER, POOLED
from model.network.folding import fold
from model.network.quantization import MAX_LEVEL, Quantization, QuantizationParameters
from model.quantization.calibration import calibrate
from model.quantization.rounding import round_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.quantization.calibration import Calibration

_LEADING = 2
"""Layers that stay on real numbers: the first depthwise kernels take small differences of large
values, and find little in the stem's levels. They are 3 % of the work.
"""


def quantize(checkpoint: Checkpoint, pixels: NDArray[np.uint8], threads: int) -> Checkpoint:
    """Quantize a float classifier, calibrated on preprocessed images (n, height, width, 3).

    Raises:
        InvalidCheckpointError: its `hidden_act` has no levels.
    """
    quantization = _create_quantization(checkpoint, calibrate(checkpoint, pixels, threads))
    quantization.check(checkpoint.config)
    return replace(
        checkpoint,
        weights=quantization.dequantize(checkpoint.config),
        digest="",
        quantization=quantization,
    )


def _create_quantization(checkpoint: Checkpoint, calibration: Calibration) -> Quantization:
    config, weights = checkpoint.config, checkpoint.weights
    folded = {layer.key: fold(weights, layer, config.layer_norm_eps) for layer in config.layers}
    folded[CLASSIFIER] = weights["classifier.weight"][:, :, None, None], weights["classifier.bias"]
    outputs = {name: _choose_levels(*limits) for name, limits in calibration.ranges.items()}
    keys = list(folded)
    sources = {key: outputs[before] for before, key in pairwise(keys)}
    sources[CLASSIFIER] = outputs[POOLED]
    return Quantization(
        sources[keys[_LEADING]],
        {
            key: round_layer(*folded[key], calibration.inputs[key], sources[key], outputs[key])
            for key in keys[_LEADING:]
        },
        pooled=outputs[POOLED],
        half_up=False,
        leading={key: folded[key] for key in keys[:_LEADING]},
        exact_logits=True,
    )


def _choose_levels(low: float, high: float) -> QuantizationParameters:
    """Levels of a range that holds 0, which is one of them."""
    scale = max((high - low) / MAX_LEVEL, float(np.finfo(np.float32).tiny))
    return QuantizationParameters(float(np.float32(scale)), round(-low / scale))
