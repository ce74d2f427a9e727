"""The same random network twice: as a checkpoint of ours, and as a network of `transformers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.network.config import LOGITS, POOLED, MobileNetV1Config
from tests.model.twins import create_checkpoint
from tests.optional import torch, transformers

# isort: split
from model.engines.torch.network import ACTIVATIONS, same_padding

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Checkpoint

_INFERENCE_ONLY = "num_batches_tracked"


def create_twins(**settings: Any) -> tuple[Checkpoint, Any]:
    """Our checkpoint, and transformers' network with the same settings and weights."""
    settings = {"num_labels": 11} | settings
    checkpoint = create_checkpoint(MobileNetV1Config.model_validate(settings))
    theirs: Any = transformers.MobileNetV1ForImageClassification(
        transformers.MobileNetV1Config(**settings)
    )
    missing, unexpected = theirs.load_state_dict(to_tensors(checkpoint), strict=False)
    assert not unexpected
    assert all(name.endswith(_INFERENCE_ONLY) for name in missing)
    return checkpoint, theirs.eval().requires_grad_(requires_grad=False)


def to_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}


def compute_unfolded(
    checkpoint: Checkpoint, images: torch.Tensor, output_stride: int = 32
) -> dict[str, torch.Tensor]:
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
        features = torch.nn.functional.conv2d(
            torch.nn.functional.pad(features, padding),
            weights[f"{layer.key}.convolution.weight"],
            stride=layer.stride,
            dilation=layer.rate,
            groups=layer.groups,
        )
        mean, variance, weight, bias = (
            weights[f"{layer.key}.normalization.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        features = torch.nn.functional.batch_norm(
            features, mean, variance, weight, bias, eps=config.layer_norm_eps
        )
        outputs[layer.end_point] = features = ACTIVATIONS[config.hidden_act](features)
    outputs[POOLED] = features.mean(dim=(2, 3))
    if config.num_labels:
        outputs[LOGITS] = torch.nn.functional.linear(
            outputs[POOLED], weights["classifier.weight"], weights["classifier.bias"]
        )
    return outputs
