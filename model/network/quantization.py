"""A quantized network: 8-bit levels instead of real numbers.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", https://arxiv.org/abs/1712.05877, as TensorFlow Lite writes it down
(https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec): a real
number is scale * (level - zero_point). Levels are uint8 throughout; int8 levels
in a file are the same, moved by 128.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from model.errors import InvalidCheckpointError
from model.network.config import CLASSIFIER
from model.network.folding import unfold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.network.config import MobileNetV1Config

MAX_LEVEL = 255

_RANGES = {"relu6": (0.0, 6.0), "relu": (0.0, math.inf), "linear": (-math.inf, math.inf)}
"""The values of `hidden_act` that clip to a range, and the range."""

_LARGEST_MULTIPLIER = 256.0  # of XNNPACK's requantization; beyond it only noise is left


@dataclass(frozen=True, slots=True)
class QuantizationParameters:
    """The real numbers that levels stand for: scale * (level - zero_point)."""

    scale: float
    zero_point: int

    def clip_levels(self, hidden_act: str) -> tuple[int, int]:
        """The lowest and the highest level within an activation's range."""
        low, high = (
            bound if math.isinf(bound) else self.zero_point + round(bound / self.scale)
            for bound in _RANGES[hidden_act]
        )
        return int(max(low, 0)), int(min(high, MAX_LEVEL))


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """One convolution on levels; its output's levels also bound its activation.

    Attributes:
        kernel: uint8, (out, in / groups, height, width).
        scales: float32, of the kernel: (out,), or (1,) for all channels.
        zero_point: of the kernel, for all channels.
        bias: int32, (out,), in units of the input's scale times the kernel's.
        input: of the map that it reads.
        output: of the map that it writes.
    """

    kernel: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_point: int
    bias: NDArray[np.int32]
    input: QuantizationParameters
    output: QuantizationParameters

    @property
    def bias_scales(self) -> NDArray[np.float32]:
        """The real value of one unit of the sums and of the bias, shaped as `scales`."""
        return self.scales * np.float32(self.input.scale)

    @property
    def multipliers(self) -> NDArray[np.float32]:
        """Factors from sums to levels of the output, shaped as `scales`."""
        return self.bias_scales / np.float32(self.output.scale)

    def dequantize(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel (out, in / groups, height, width) and bias (out,) as real numbers."""
        kernel = (self.kernel.astype(np.float32) - self.zero_point) * self.scales[
            :, None, None, None
        ]
        return kernel, (self.bias * self.bias_scales.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True)
class Quantization:
    """The whole network on levels.

    Attributes:
        input: of the pixels, each byte of which is its level; with `leading`, of the map that the
            last of these gives.
        layers: by the layer's key, in the network's order, `classifier` last if there is one.
        pooled: of the averaged last map, which the classifier reads.
        half_up: rounds half a level of the average up, as LiteRT's AVERAGE_POOL_2D does; else to
            even, as its MEAN does.
        exact_logits: the classifier's sums are the logits, without its output's levels.
        leading: kernel (out, in / groups, height, width) and bias (out,) of the first layers that
            stay on real numbers, by the layer's key.
    """

    input: QuantizationParameters
    layers: Mapping[str, QuantizedLayer]
    pooled: QuantizationParameters
    half_up: bool = True
    exact_logits: bool = False
    leading: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict
    )

    def dequantize(self, config: MobileNetV1Config) -> dict[str, NDArray[np.float32]]:
        """The same network as float32 weights under transformers' names.

        BatchNorm is folded into the kernels already; the one that is written changes nothing.
        """
        layers = {key: layer.dequantize() for key, layer in self.layers.items()}
        return unfold({**self.leading, **layers}, config.layer_norm_eps)

    def check(self, config: MobileNetV1Config) -> None:
        """Check that the levels can be computed.

        Raises:
            InvalidCheckpointError: they cannot; the text names the layer.
        """
        if config.hidden_act not in _RANGES:
            raise InvalidCheckpointError(
                f"hidden_act {config.hidden_act!r} cannot be quantized; {sorted(_RANGES)} can"
            )
        shapes = [(key, kernel.shape) for key, (kernel, _) in self.leading.items()]
        shapes += [(key, layer.kernel.shape) for key, layer in self.layers.items()]
        if shapes != list(kernel_shapes(config).items()):
            raise InvalidCheckpointError("the quantized kernels do not fit the configuration")
        for key, arrays in self.leading.items():
            if not all(np.isfinite(array).all() for array in arrays):
                raise InvalidCheckpointError(f"{key} has values that are not finite")
        for key, layer in self.layers.items():
            with np.errstate(all="ignore"):
                scales = np.concatenate([layer.scales, layer.bias_scales, layer.multipliers])
            if not (np.isfinite(scales).all() and scales.min() > 0):
                raise InvalidCheckpointError(f"{key} has scales that are not finite and positive")
            if layer.multipliers.max() >= _LARGEST_MULTIPLIER:
                raise InvalidCheckpointError(f"{key} has an output scale that is far too small")


def kernel_shapes(config: MobileNetV1Config) -> dict[str, tuple[int, int, int, int]]:
    """Shape of each layer's kernel by its key, in the network's order, the classifier last."""
    shapes = {layer.key: layer.weight_shape for layer in config.layers}
    if config.num_labels:
        shapes[CLASSIFIER] = config.classifier.weight_shape
    return shapes
