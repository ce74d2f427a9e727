"""Writes a quantized checkpoint so that ONNX Runtime runs it as integers.

Every convolution stands between DequantizeLinear and QuantizeLinear nodes, as ONNX expresses 8-bit
levels; ONNX Runtime fuses the three into a QLinearConv. Its arithmetic is that of XNNPACK in
LiteRT: exact sums in int32, times a float32 multiplier, rounded half to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from model.engines.onnx.float_graph import FloatGraph
from model.engines.onnx.graph import PIXELS
from model.network.config import CLASSIFIER, LOGITS, POOLED
from model.network.quantization import MAX_LEVEL, QuantizationParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer
    from model.network.quantization import Quantization, QuantizedLayer

_INT8_OFFSET = 128


class QuantizedGraph(FloatGraph):
    """The network on 8-bit levels, but for its leading layers: its outputs are real numbers.

    Without leading layers, each byte of an image is its level.

    Args:
        checkpoint: with the network's configuration and preprocessing.
        quantization: its levels.
        signed_kernels: write kernels as int8, not uint8: the same numbers, and three times as fast
            where the CPU has a dot product, but wrong where it has none (`has_dot_product`).
    """

    def __init__(
        self, checkpoint: Checkpoint, quantization: Quantization, *, signed_kernels: bool = False
    ) -> None:
        super().__init__(checkpoint)
        self._quantization = quantization
        self._signed_kernels = signed_kernels

    def _read_pixels(self) -> str:
        if self._quantization.leading:
            return super()._read_pixels()
        levels = self._add("Transpose", [PIXELS], "input/levels", perm=[0, 3, 1, 2])
        return self._dequantize(levels, self._quantization.input, "input")

    def _layer(self, layer: ConvLayer, source: str) -> str:
        if layer.key in self._quantization.leading:
            real = super()._layer(layer, source)
            if layer.key != list(self._quantization.leading)[-1]:
                return real
            levels = self._quantize(real, self._quantization.input, "leading/levels")
            return self._dequantize(levels, self._quantization.input, "leading")
        quantized = self._quantization.layers[layer.key]
        # It pads with the input's zero point, which is the real 0.
        attributes = self._convolution_attributes(layer)
        clip_levels = quantized.output.clip_levels(self._config.hidden_act)
        return self._convolution(layer.end_point, quantized, clip_levels, source, **attributes)

    def _head(self, source: str, outputs: Sequence[str]) -> None:  # noqa: ARG002  # means are of its levels
        pooled = self._pool()
        if POOLED in outputs:
            self._add("Flatten", [pooled], POOLED)
        if LOGITS in outputs and self._quantization.exact_logits:
            self._sum_logits()
        elif LOGITS in outputs:
            layer = self._quantization.layers[CLASSIFIER]
            unclipped = 0, MAX_LEVEL
            logits = self._convolution(CLASSIFIER, layer, unclipped, pooled, kernel_shape=[1, 1])
            self._add("Flatten", [logits], LOGITS)

    def _folded(self, layer: ConvLayer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._quantization.leading[layer.key]

    def _dequantize(self, levels: str, parameters: QuantizationParameters, target: str) -> str:
        names = self._parameters(parameters, target)
        return self._add("DequantizeLinear", [levels, *names], target)

    def _quantize(self, source: str, parameters: QuantizationParameters, target: str) -> str:
        return self._add("QuantizeLinear", [source, *self._parameters(parameters, target)], target)

    def _pool(self) -> str:
        """The mean of each channel's levels, exact: whole numbers in float32."""
        last = self._quantization.layers[self._config.layers[-1].key].output
        pooled = self._quantization.pooled
        self._constants["axes"] = np.array([2, 3], np.int64)
        levels = self._add("Cast", [self._levels], "map/float", to=TensorProto.FLOAT)
        mean = self._add("ReduceMean", [levels, "axes"], "mean", keepdims=1)
        if self._quantization.half_up and last == pooled:
            self._constants["half"] = np.array(0.5, np.float32)
            up = self._add("Floor", [self._add("Add", [mean, "half"], "mean/half")], "mean/up")
            rounded = self._add("Cast", [up], "mean/levels", to=TensorProto.UINT8)
        else:
            self._constants["map/zero_point"] = np.array(last.zero_point, np.float32)
            distance = self._add("Sub", [mean, "map/zero_point"], "mean/distance")
            steps = QuantizationParameters(pooled.scale / last.scale, pooled.zero_point)
            rounded = self._quantize(distance, steps, "mean/levels")
        return self._dequantize(rounded, pooled, "mean/real")

    def _sum_logits(self) -> None:
        """The classifier's sums as they are: whole numbers, each class with its own unit."""
        layer = self._quantization.layers[CLASSIFIER]
        kernel, zero_point = self._kernel_levels(layer)
        self._constants |= {
            "logits/kernel": np.ascontiguousarray(kernel[:, :, 0, 0].T),
            "logits/kernel/zero_point": np.array(zero_point, kernel.dtype),
            "logits/source/zero_point": np.array(layer.input.zero_point, np.uint8),
            "logits/bias": layer.bias,
            "logits/units": layer.bias_scales,
        }
        sources = [self._add("Flatten", ["mean/levels"], "logits/source"), "logits/kernel"]
        sources += ["logits/source/zero_point", "logits/kernel/zero_point"]
        products = self._add("MatMulInteger", sources, "logits/products")
        sums = self._add("Add", [products, "logits/bias"], "logits/sums")
        real = self._add("Cast", [sums], "logits/float", to=TensorProto.FLOAT)
        self._add("Mul", [real, "logits/units"], LOGITS)

    def _convolution(
        self,
        name: str,
        layer: QuantizedLayer,
        clip_levels: tuple[int, int],
        source: str,
        **attributes: Any,
    ) -> str:
        kernel, bias = f"{name}/kernel", f"{name}/bias"
        scales = layer.scales if len(layer.scales) > 1 else layer.scales[0]
        shape = np.shape(scales)
        kernel_levels, zero_point = self._kernel_levels(layer)
        self._constants |= {
            f"{kernel}/levels": kernel_levels,
            f"{kernel}/scale": np.asarray(scales),
            f"{kernel}/zero_point": np.full(shape, zero_point, kernel_levels.dtype),
            f"{bias}/levels": layer.bias,
            f"{bias}/scale": layer.bias_scales.reshape(shape),
            f"{bias}/zero_point": np.zeros(shape, np.int32),
        }
        for target in (kernel, bias):
            parts = [f"{target}/{part}" for part in ("levels", "scale", "zero_point")]
            self._add("DequantizeLinear", parts, target, axis=0)
        convolved = self._add("Conv", [source, kernel, bias], f"{name}/convolved", **attributes)
        levels = self._quantize(convolved, layer.output, f"{name}/levels")
        if clip_levels != (0, MAX_LEVEL):
            bounds = [f"{name}/low", f"{name}/high"]
            self._constants |= {
                bound: np.array(level, np.uint8)
                for bound, level in zip(bounds, clip_levels, strict=True)
            }
            levels = self._add("Clip", [levels, *bounds], f"{name}/clipped")
        self._levels = levels
        return self._dequantize(levels, layer.output, f"{name}/real")

    def _kernel_levels(self, layer: QuantizedLayer) -> tuple[NDArray[Any], int]:
        """A kernel's levels and zero point; both moved, signed ones stand for the same numbers."""
        if not self._signed_kernels:
            return layer.kernel, layer.zero_point
        moved = layer.kernel.astype(np.int16) - _INT8_OFFSET
        return moved.astype(np.int8), layer.zero_point - _INT8_OFFSET

    def _parameters(self, parameters: QuantizationParameters, target: str) -> list[str]:
        names = [f"{target}/scale", f"{target}/zero_point"]
        self._constants |= {
            names[0]: np.array(parameters.scale, np.float32),
            names[1]: np.array(parameters.zero_point, np.uint8),
        }
        return names
