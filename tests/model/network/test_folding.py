from __future__ import annotations

import numpy as np

from model.network.folding import fold
from tests.model.twins import create_checkpoint, tiny_config


def test_folding_keeps_what_a_layer_computes() -> None:
    checkpoint = create_checkpoint(tiny_config())
    stem = checkpoint.config.layers[0]
    kernel, bias = fold(checkpoint.weights, stem, checkpoint.config.layer_norm_eps)
    assert kernel.shape == stem.weight_shape
    assert bias.shape == (stem.out_channels,)
    factor = kernel / checkpoint.weights[f"{stem.key}.convolution.weight"]
    weight, beta, mean, variance = (
        checkpoint.weights[f"{stem.key}.normalization.{part}"]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    expected = weight / np.sqrt(variance + 0.001)
    np.testing.assert_allclose(
        factor, np.broadcast_to(expected[:, None, None, None], factor.shape), rtol=1e-5
    )
    np.testing.assert_allclose(bias, beta - mean * expected, rtol=1e-5, atol=1e-6)
