from __future__ import annotations

import numpy as np
import pytest

from model.network.quantization import QuantizationParameters
from model.quantization.calibration import Moments
from model.quantization.rounding import round_layer, round_rows

SOURCE, TARGET = QuantizationParameters(6 / 255, 0), QuantizationParameters(0.1, 128)


@pytest.fixture
def inputs() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Eight inputs that go together, with a large mean: (groups, inputs, positions)."""
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(1, 1, 2000))
    return 3 + shared + 0.1 * rng.normal(size=(1, 8, 2000))


def test_rounding_keeps_sums_nearer_than_the_nearest_levels_do(
    inputs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    rows = np.random.default_rng(4).normal(size=(1, 16, 8))
    steps = np.abs(rows).max(axis=2) / 7  # few levels, so that it shows
    seen = Moments.of(inputs)
    errors = []
    for levels in (round_rows(rows, steps, seen.covariance), np.round(rows / steps[:, :, None])):
        sums = (levels * steps[:, :, None] - rows) @ inputs
        errors.append(sums.std(axis=2).mean())
    assert errors[0] < 0.5 * errors[1]


def test_the_bias_takes_what_rounding_adds_on_average(
    inputs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    rng = np.random.default_rng(5)
    kernel, bias = rng.normal(size=(4, 8, 1, 1)).astype(np.float32), np.ones(4, np.float32)
    layer = round_layer(kernel, bias, Moments.of(inputs), SOURCE, TARGET)
    rounded, corrected = layer.dequantize()
    means = inputs.mean(axis=2)[0]
    np.testing.assert_allclose(
        rounded[:, :, 0, 0] @ means + corrected, kernel[:, :, 0, 0] @ means + bias, atol=1e-3
    )


def test_a_dead_channel_with_a_large_bias_has_levels(
    inputs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    kernel = np.zeros((2, 8, 1, 1), np.float32)
    kernel[1] = 1e-12
    layer = round_layer(kernel, np.array([5, -5], np.float32), Moments.of(inputs), SOURCE, TARGET)
    _, bias = layer.dequantize()
    np.testing.assert_allclose(bias, [5, -5], rtol=1e-3)


def test_inputs_that_never_change_are_no_trouble() -> None:
    seen = Moments.of(np.zeros((3, 9, 50)))
    kernel = np.random.default_rng(6).normal(size=(3, 1, 3, 3)).astype(np.float32)
    layer = round_layer(kernel, np.zeros(3, np.float32), seen, SOURCE, TARGET)
    np.testing.assert_allclose(layer.dequantize()[0], kernel, atol=0.02)
