"""Random networks as checkpoints of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint, expected_shapes
from model.images.preprocessor_config import Preprocessing
from model.network.config import MobileNetV1Config

DEPTH_MULTIPLIERS = (0.25, 0.5, 0.75, 1.0)
SIZES = ((32, 32), (97, 131), (128, 128), (160, 160), (192, 192), (224, 224), (301, 257))
"""Inputs as (height, width)."""
ENGINES = ("onnx", pytest.param("torch", marks=pytest.mark.thorough))


def size_id(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def variant_id(variant: tuple[float, bool]) -> str:
    return f"{variant[0]}-{'same' if variant[1] else 'explicit'}-padding"


def tiny_config(**settings: Any) -> MobileNetV1Config:
    """Eight channels in every layer and three classes."""
    return MobileNetV1Config.model_validate({"depth_multiplier": 0.01, "num_labels": 3} | settings)


def create_weights(config: MobileNetV1Config, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights, BatchNorm's too, that keep every layer's activations alive."""
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            value = rng.normal(0, np.sqrt(2 / fan_in), shape)
        elif name.endswith(("normalization.weight", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        weights[name] = value.astype(np.float32)
    return weights


def create_checkpoint(config: MobileNetV1Config, seed: int = 0) -> Checkpoint:
    return Checkpoint("random", config, Preprocessing(), create_weights(config, seed), digest="")


def relative_error(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, measured in the largest expected value."""
    assert actual.shape == expected.shape
    assert np.any(expected != 0), "a dead tensor compares to anything"
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
