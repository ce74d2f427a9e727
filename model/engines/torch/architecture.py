"""MobileNet V1 in PyTorch: the reference that every other engine is held against.

Howard et al., https://arxiv.org/abs/1704.04861: depthwise separable convolutions, each with
BatchNorm and an activation. Parameter names are those of `transformers`, so that its checkpoints
load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import UnsupportedModelError
from model.network.config import MIN_IMAGE_SIDE, ConvLayer, MobileNetV1Config

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "linear": nn.Identity,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}
"""The values of `hidden_act` that this network knows."""

_BATCH_NORM_MOMENTUM = 0.9997


def same_padding(size: int, kernel_size: int, stride: int, rate: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after one axis: the odd pixel goes after."""
    covered = stride if size % stride == 0 else size % stride
    total = max((kernel_size - 1) * rate + 1 - covered, 0)
    return total // 2, total - total // 2


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, activation: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Stride and rate come with each call: the same weights serve every output stride.
    """

    def __init__(self, config: MobileNetV1Config, layer: ConvLayer) -> None:
        super().__init__()
        self.tf_padding = config.tf_padding
        self.convolution = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            groups=layer.groups,
            bias=False,
        )
        self.normalization = nn.BatchNorm2d(
            layer.out_channels, eps=config.layer_norm_eps, momentum=_BATCH_NORM_MOMENTUM
        )
        self.activation = ACTIVATIONS[config.hidden_act]()

    def forward(self, features: Tensor, layer: ConvLayer) -> Tensor:
        """Run one layer; see the class for the shapes."""
        if self.tf_padding:
            geometry = layer.kernel_size, layer.stride, layer.rate
            top, bottom = same_padding(features.shape[-2], *geometry)
            left, right = same_padding(features.shape[-1], *geometry)
        else:
            top = bottom = left = right = layer.kernel_size // 2 * layer.rate
        features = functional.conv2d(
            functional.pad(features, (left, right, top, bottom)),
            self.convolution.weight,
            stride=layer.stride,
            dilation=layer.rate,
            groups=layer.groups,
        )
        features = self.normalization(features)
        return self.activation(features)  # type: ignore[no-any-return]  # modules return Any


class MobileNetV1(nn.Module):
    """Stem and 13 depthwise separable blocks, pooled, then a linear head.

    Raises:
        UnsupportedModelError: `hidden_act` is not one of `ACTIVATIONS`.
    """

    def __init__(self, config: MobileNetV1Config) -> None:
        super().__init__()
        if config.hidden_act not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"hidden_act {config.hidden_act!r} is not known; known are {sorted(ACTIVATIONS)}"
            )
        stem, *blocks = (ConvNormAct(config, layer) for layer in config.layers)
        self.mobilenet_v1 = nn.ModuleDict({"conv_stem": stem, "layer": nn.ModuleList(blocks)})
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = (
            nn.Linear(config.num_features, config.num_labels)
            if config.num_labels
            else nn.Identity()
        )
        self._config = config
        self._initialize(config.initializer_range)

    def forward_features(
        self, images: Tensor, output_stride: int = 32, deepest: str | None = None
    ) -> dict[str, Tensor]:
        """Every layer's output by its end point's name.

        Args:
            images: (n, channels, height, width), float, in [-1, 1]; sides of at least 32 pixels.
            output_stride: see `MobileNetV1Config.layers_at`.
            deepest: end point to stop after; None means all.

        Raises:
            ValueError: the images are too small.
        """
        if min(images.shape[-2:]) < MIN_IMAGE_SIDE:
            raise ValueError(f"images must be at least {MIN_IMAGE_SIDE} pixels wide and high")
        features, end_points = images, {}
        modules = [self.mobilenet_v1["conv_stem"], *self.mobilenet_v1["layer"]]  # type: ignore[misc]  # a ModuleList iterates
        layers = self._config.layers_at(output_stride)
        for layer, module in zip(layers, modules, strict=True):
            end_points[layer.end_point] = features = module(features, layer)
            if layer.end_point == deepest:
                break
        return end_points

    def forward_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The last feature map, (n, c, h, w) -> pooled (n, c) and logits (n, classes)."""
        pooled = features.mean(dim=(2, 3))
        return pooled, self.classifier(self.dropout(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes)."""
        *_, last = self.forward_features(images).values()
        return self.forward_head(last)[1]

    def _initialize(self, initializer_range: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def create_network(config: MobileNetV1Config, weights: dict[str, Tensor]) -> MobileNetV1:
    """Build the network with a checkpoint's weights, ready to infer.

    Raises:
        UnsupportedModelError: see `MobileNetV1`.
    """
    with torch.device("meta"):
        network = MobileNetV1(config)
    state = network.state_dict()
    counters = {name: torch.zeros((), dtype=torch.long) for name in state.keys() - weights.keys()}
    network.load_state_dict({**counters, **weights}, assign=True)
    return network.eval().requires_grad_(False)  # noqa: FBT003  # torch's own signature
