"""The same random network twice: as a checkpoint of ours, and as a network of `transformers`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.checkpoints.checkpoint import Checkpoint, expected_shapes
from model.engines.torch.network import ACTIVATIONS, same_padding
from model.images.preprocessor_config import Preprocessing
from model.network.config import LOGITS, POOLED, MobileNetV1Config

DEPTH_MULTIPLIERS = (0.25, 0.5, 0.75, 1.0)
SIZES = ((32, 32), (97, 131), (128, 128), (160, 160), (192, 192), (224, 224), (301, 257))
"""Inputs as (height, width)."""

_INFERENCE_ONLY = "num_batches_tracked"


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


def create_twins(**settings: Any) -> tuple[Checkpoint, Any]:
    """Our checkpoint, and transformers' network with the same settings and weights."""
    import transformers

    settings = {"num_labels": 11} | settings
    checkpoint = create_checkpoint(MobileNetV1Config.model_validate(settings))
    theirs: Any = transformers.MobileNetV1ForImageClassification(
        transformers.MobileNetV1Config(**settings)
    )
    missing, unexpected = theirs.load_state_dict(to_tensors(checkpoint), strict=False)
    assert not unexpected
    assert all(name.endswith(_INFERENCE_ONLY) for name in missing)
    return checkpoint, theirs.eval().requires_grad_(requires_grad=False)


def to_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}


def compute_unfolded(
    checkpoint: Checkpoint, images: Tensor, output_stride: int = 32
) -> dict[str, Tensor]:
    """Every layer's output with its BatchNorm as it stands, in the images' precision."""
    config = checkpoint.config
    weights = {name: value.to(images.dtype) for name, value in to_tensors(checkpoint).items()}
    features, outputs = images, {}
    for layer in config.layers_at(output_stride):
        reach = (layer.kernel_size - 1) * layer.rate + 1
        padding = [
            part
            for side in (features.shape[-1], features.shape[-2])
            for part in (
                same_padding(side, reach, layer.stride) if config.tf_padding else [reach // 2] * 2
            )
        ]
        features = functional.conv2d(
            functional.pad(features, padding),
            weights[f"{layer.key}.convolution.weight"],
            stride=layer.stride,
            dilation=layer.rate,
            groups=layer.groups,
        )
        mean, variance, weight, bias = (
            weights[f"{layer.key}.normalization.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        features = functional.batch_norm(
            features, mean, variance, weight, bias, eps=config.layer_norm_eps
        )
        outputs[layer.end_point] = features = ACTIVATIONS[config.hidden_act](features)
    outputs[POOLED] = features.mean(dim=(2, 3))
    if config.num_labels:
        outputs[LOGITS] = functional.linear(
            outputs[POOLED], weights["classifier.weight"], weights["classifier.bias"]
        )
    return outputs


def relative_error(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, measured in the largest expected value."""
    assert actual.shape == expected.shape
    assert np.any(expected != 0), "a dead tensor compares to anything"
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
