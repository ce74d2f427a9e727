"""MobileNet V1 in PyTorch, on real numbers or on the levels of a quantized checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import UnsupportedModelError
from model.network.config import CLASSIFIER, LOGITS, POOLED
from model.network.folding import fold
from model.network.quantization import MAX_LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer
    from model.network.quantization import Quantization, QuantizationParameters, QuantizedLayer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "hardswish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "linear": lambda features: features,
    "mish": functional.mish,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}
"""The values of `hidden_act` that this engine knows."""

_EXACT = 2**24
"""float32 holds every whole number up to this."""


class Network:
    """Stem and 13 depthwise separable blocks, pooled, then a classifier if there is one.

    Raises:
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self._config = checkpoint.config
        self._layers = list(self._create_layers(checkpoint, device))
        self._scale, self._offset = (
            torch.tensor(values, device=device)
            for values in checkpoint.preprocessing.scale_and_offset()
        )

    def run(
        self, pixels: Tensor, outputs: Collection[str], output_stride: int = 32
    ) -> dict[str, Tensor]:
        """Compute the outputs, no deeper than they need.

        Args:
            pixels: (n, height, width, channels), uint8; sides of at least 32 pixels.
            outputs: names as in `EngineOutput`.
            output_stride: see `MobileNetV1Config.layers_at`.

        Returns:
            float32; maps are (n, height, width, channels), the others (n, channels).
        """
        features = self._scale_pixels(pixels).permute(0, 3, 1, 2)
        wanted, arrays = set(outputs), dict[str, Tensor]()
        for layer, module in zip(self._config.layers_at(output_stride), self._layers, strict=False):
            features = module.run(features, layer)
            if layer.end_point in wanted:
                arrays[layer.end_point] = module.real(features).permute(0, 2, 3, 1)
            if len(arrays) == len(wanted):
                return arrays
        pooled = self._pool(features)
        if POOLED in wanted:
            arrays[POOLED] = self._real_pooled(pooled).flatten(1)
        if LOGITS in wanted:
            arrays[LOGITS] = self._classify(pooled).flatten(1)
        return arrays

    def _create_layers(self, checkpoint: Checkpoint, device: str) -> Iterator[Convolution]:
        config, weights = checkpoint.config, checkpoint.weights
        if config.hidden_act not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"hidden_act {config.hidden_act!r} is not known; known are {sorted(ACTIVATIONS)}"
            )
        for layer in config.layers:
            kernel, bias = fold(weights, layer, config.layer_norm_eps)
            activation = ACTIVATIONS[config.hidden_act]
            yield Convolution(kernel, bias, activation, device, tf_padding=config.tf_padding)
        if config.num_labels:
            # The sums of a 1x1 convolution do not depend on the batch; those of `linear` do.
            kernel, bias = weights["classifier.weight"], weights["classifier.bias"]
            yield Convolution(kernel[..., None, None], bias, ACTIVATIONS["linear"], device)

    def _scale_pixels(self, pixels: Tensor) -> Tensor:
        return pixels / self._scale - self._offset

    def _pool(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3), keepdim=True)

    def _real_pooled(self, pooled: Tensor) -> Tensor:
        return pooled

    def _classify(self, pooled: Tensor) -> Tensor:
        return self._layers[-1].run(pooled, self._config.classifier)


class QuantizedNetwork(Network):
    """The network on 8-bit levels: whole numbers in floating point, equal to LiteRT's integers."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization, device: str) -> None:
        self._quantization = quantization
        super().__init__(checkpoint, device)

    def _create_layers(self, checkpoint: Checkpoint, device: str) -> Iterator[Convolution]:
        config, leading = checkpoint.config, self._quantization.leading
        for number, (kernel, bias) in enumerate(leading.values(), start=1):
            output = self._quantization.input if number == len(leading) else None
            activation = ACTIVATIONS[config.hidden_act]
            yield LeadingConvolution(
                kernel, bias, activation, device, tf_padding=config.tf_padding, output=output
            )
        for key, layer in self._quantization.layers.items():
            hidden_act = "linear" if key == CLASSIFIER else config.hidden_act
            yield QuantizedConvolution(layer, hidden_act, device, tf_padding=config.tf_padding)

    def _scale_pixels(self, pixels: Tensor) -> Tensor:
        if self._quantization.leading:
            return super()._scale_pixels(pixels)
        return pixels.to(torch.float32)  # each byte is its level

    def _pool(self, features: Tensor) -> Tensor:
        pooled = self._quantization.pooled
        last = self._quantization.layers[self._config.layers[-1].key].output
        mean = features.to(torch.float64).mean(dim=(2, 3), keepdim=True)
        if self._quantization.half_up and last == pooled:
            return torch.floor(mean + 0.5).to(torch.float32)
        distance = (mean - last.zero_point) * (last.scale / pooled.scale)
        return (torch.round(distance) + pooled.zero_point).clamp(0, MAX_LEVEL).to(torch.float32)

    def _real_pooled(self, pooled: Tensor) -> Tensor:
        return _dequantize(pooled, self._quantization.pooled)

    def _classify(self, pooled: Tensor) -> Tensor:
        classifier = self._layers[-1]
        assert isinstance(classifier, QuantizedConvolution)  # noqa: S101  # it stays on levels
        if self._quantization.exact_logits:
            return classifier.sum(pooled, self._config.classifier)
        return classifier.real(classifier.run(pooled, self._config.classifier))


class Convolution:
    """Convolution and activation: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Stride and dilation come with each call: the same weights serve every output stride.
    """

    def __init__(
        self,
        kernel: NDArray[Any],
        bias: NDArray[Any],
        activation: Callable[[Tensor], Tensor],
        device: str,
        *,
        tf_padding: bool = True,
    ) -> None:
        self._activation = activation
        self._tf_padding = tf_padding
        self._kernel = torch.tensor(kernel, device=device).to(memory_format=torch.channels_last)
        self._bias = torch.tensor(bias, device=device)

    def run(self, features: Tensor, layer: ConvLayer) -> Tensor:
        """Run one layer."""
        return self._activation(self._convolve(features, layer))

    def real(self, features: Tensor) -> Tensor:
        """The real numbers that the output stands for."""
        return features

    def _convolve(self, features: Tensor, layer: ConvLayer) -> Tensor:
        reach = (layer.kernel_size - 1) * layer.rate + 1
        if self._tf_padding:
            top, bottom = same_padding(features.shape[-2], reach, layer.stride)
            left, right = same_padding(features.shape[-1], reach, layer.stride)
        else:
            top = bottom = left = right = reach // 2
        padding = top, left
        if padding != (bottom, right):  # the convolution itself pads evenly only
            features, padding = functional.pad(features, (left, right, top, bottom)), (0, 0)
        return functional.conv2d(
            features, self._kernel, self._bias, layer.stride, padding, layer.rate, layer.groups
        )


class LeadingConvolution(Convolution):
    """Convolution on real numbers before those on levels, which the last one gives."""

    def __init__(
        self,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        activation: Callable[[Tensor], Tensor],
        device: str,
        *,
        tf_padding: bool,
        output: QuantizationParameters | None,
    ) -> None:
        super().__init__(kernel, bias, activation, device, tf_padding=tf_padding)
        self._output = output

    def run(self, features: Tensor, layer: ConvLayer) -> Tensor:
        """Run one layer."""
        real = super().run(features, layer)
        if self._output is None:
            return real
        levels = torch.round(real / self._output.scale) + self._output.zero_point
        return levels.clamp(0, MAX_LEVEL)

    def real(self, features: Tensor) -> Tensor:
        """The real numbers that the output stands for."""
        return _dequantize(features, self._output) if self._output else features


class QuantizedConvolution(Convolution):
    """Convolution on levels, with exact sums: float64 where float32 could round one."""

    def __init__(
        self, layer: QuantizedLayer, hidden_act: str, device: str, *, tf_padding: bool
    ) -> None:
        kernel = layer.kernel.astype(np.int64) - layer.zero_point
        bias = layer.bias.astype(np.int64)
        largest = MAX_LEVEL * np.abs(kernel).sum(axis=(1, 2, 3)) + np.abs(bias)
        dtype = np.float32 if largest.max() < _EXACT else np.float64
        low, high = layer.output.clip_levels(hidden_act)
        super().__init__(
            kernel.astype(dtype),
            bias.astype(dtype),
            lambda levels: levels.clamp(low, high),
            device,
            tf_padding=tf_padding,
        )
        self._input, self._output = layer.input, layer.output
        self._units = torch.tensor(layer.bias_scales, device=device)[:, None, None]
        self._multipliers = torch.tensor(layer.multipliers, device=device)[:, None, None]

    def run(self, features: Tensor, layer: ConvLayer) -> Tensor:
        """Run one layer: whole numbers in float32 both ways."""
        sums = self._sum_levels(features, layer)
        levels = torch.round(sums * self._multipliers) + self._output.zero_point
        return self._activation(levels)

    def sum(self, features: Tensor, layer: ConvLayer) -> Tensor:
        """The real numbers that one layer's sums stand for."""
        return self._sum_levels(features, layer) * self._units

    def _sum_levels(self, features: Tensor, layer: ConvLayer) -> Tensor:
        distances = features.to(self._kernel.dtype) - self._input.zero_point
        # Some convolutions on a GPU take a detour through fractions.
        return torch.round(self._convolve(distances, layer)).to(torch.float32)

    def real(self, features: Tensor) -> Tensor:
        """The real numbers that the output's levels stand for."""
        return _dequantize(features, self._output)


def same_padding(size: int, reach: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after one axis: the odd pixel goes after.

    Args:
        size: of the axis, in pixels.
        reach: pixels that a dilated kernel spans.
        stride: of the convolution.
    """
    covered = stride if size % stride == 0 else size % stride
    total = max(reach - covered, 0)
    return total // 2, total - total // 2


def _dequantize(levels: Tensor, parameters: QuantizationParameters) -> Tensor:
    return (levels - parameters.zero_point) * parameters.scale
