"""A quantized checkpoint in PyTorch: levels computed in floating point, integer for integer.

float32 holds every whole number up to 2 ** 24. A layer whose sums may pass that is computed in
float64, so that each sum is what LiteRT's int32 holds, and rounds to the same level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.engines.torch.architecture import same_padding
from model.network.config import LOGITS, POOLED
from model.network.quantization import CLASSIFIER, MAX_LEVEL

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer
    from model.network.quantization import Quantization, QuantizationParameters, QuantizedLayer


_EXACT = 2**24


class QuantizedNetwork(nn.Module):
    """Stem and 13 depthwise separable blocks, pooled, then a classifier if there is one."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization) -> None:
        super().__init__()
        self._config = checkpoint.config
        self._quantization = quantization
        self._layers = nn.ModuleList(
            QuantizedConv(layer, (0, MAX_LEVEL) if key == CLASSIFIER else self._clip_levels(layer))
            for key, layer in quantization.layers.items()
        )

    def forward(
        self, pixels: Tensor, output_stride: int = 32, deepest: str | None = None
    ) -> dict[str, Tensor]:
        """Real numbers of every end point, of `pooled`, and of `logits` if it classifies.

        Args:
            pixels: (n, height, width, channels), uint8; each byte is its level.
            output_stride: see `MobileNetV1Config.layers_at`.
            deepest: end point to stop after; None means all.

        Returns:
            Maps as (n, channels, height, width), the others as (n, channels).
        """
        levels = pixels.permute(0, 3, 1, 2).to(torch.float32)
        real: dict[str, Tensor] = {}
        for layer, module in zip(self._config.layers_at(output_stride), self._layers, strict=False):
            levels = module(levels, layer)
            output = self._quantization.layers[layer.key].output
            real[layer.end_point] = _dequantize(levels, output)
            if layer.end_point == deepest:
                return real
        levels = self._pool(levels, output)
        real[POOLED] = _dequantize(levels, self._quantization.pooled).flatten(1)
        if self._config.num_labels:
            output = self._quantization.layers[CLASSIFIER].output
            real[LOGITS] = _dequantize(self._layers[-1](levels), output).flatten(1)
        return real

    def _pool(self, levels: Tensor, last: QuantizationParameters) -> Tensor:
        """The mean of each channel's levels."""
        pooled = self._quantization.pooled
        mean = levels.to(torch.float64).mean(dim=(2, 3), keepdim=True)
        if self._quantization.half_up and last == pooled:
            return torch.floor(mean + 0.5).to(torch.float32)
        distance = (mean - last.zero_point) * (last.scale / pooled.scale)
        return (torch.round(distance) + pooled.zero_point).clamp(0, MAX_LEVEL).to(torch.float32)

    def _clip_levels(self, layer: QuantizedLayer) -> tuple[int, int]:
        return layer.output.clip_levels(self._config.hidden_act)


class QuantizedConv(nn.Module):
    """One convolution: levels (n, in, h, w) -> levels (n, out, h / stride, w / stride), float32."""

    def __init__(self, layer: QuantizedLayer, clip_levels: tuple[int, int]) -> None:
        super().__init__()
        kernel = layer.kernel.astype(np.int64) - layer.zero_point
        largest = MAX_LEVEL * np.abs(kernel).sum(axis=(1, 2, 3)) + np.abs(
            layer.bias.astype(np.int64)
        )
        self._dtype = torch.float32 if largest.max() < _EXACT else torch.float64
        self._zero_points = layer.input.zero_point, layer.output.zero_point
        self._clip_levels = clip_levels
        self.kernel = nn.Buffer(torch.from_numpy(kernel).to(self._dtype))
        self.bias = nn.Buffer(torch.from_numpy(layer.bias).to(self._dtype))
        self.multipliers = nn.Buffer(torch.from_numpy(layer.multipliers)[:, None, None])

    def forward(self, levels: Tensor, layer: ConvLayer | None = None) -> Tensor:
        """Run one layer; without a description it is a 1x1 convolution."""
        distances = levels.to(self._dtype) - self._zero_points[0]
        stride, rate, groups = 1, 1, 1
        if layer:
            stride, rate, groups = layer.stride, layer.rate, layer.groups
            reach = (layer.kernel_size - 1) * rate + 1
            top, bottom = same_padding(levels.shape[-2], reach, stride)
            left, right = same_padding(levels.shape[-1], reach, stride)
            distances = functional.pad(distances, (left, right, top, bottom))
        sums = functional.conv2d(
            distances, self.kernel, self.bias, stride=stride, dilation=rate, groups=groups
        )
        # Some convolutions on a GPU take a detour through fractions.
        scaled = torch.round(sums).to(torch.float32) * self.multipliers
        return (torch.round(scaled) + self._zero_points[1]).clamp(*self._clip_levels)


def _dequantize(levels: Tensor, parameters: QuantizationParameters) -> Tensor:
    return (levels - parameters.zero_point) * parameters.scale
