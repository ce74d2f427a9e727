"""Writes a quantized checkpoint as an ONNX model that ONNX Runtime runs as integers.

Every convolution stands between DequantizeLinear and QuantizeLinear nodes, as ONNX expresses 8-bit
levels; ONNX Runtime fuses the three into a QLinearConv. Its arithmetic is that of XNNPACK in
LiteRT: exact sums in int32, times a float32 multiplier, rounded half to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from model.engines.onnx.model import PIXELS, assemble, convolution_attributes
from model.network.config import CLASSIFIER, LOGITS, POOLED
from model.network.quantization import MAX_LEVEL, QuantizationParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer, MobileNetV1Config
    from model.network.quantization import Quantization, QuantizedLayer


def create_graph(
    checkpoint: Checkpoint, outputs: Sequence[str] = (LOGITS, POOLED), output_stride: int = 32
) -> ModelProto:
    """Write a checkpoint as an ONNX model, no deeper than the outputs need.

    Each byte of an image is an input level; the outputs are real numbers.

    Args:
        checkpoint: its `quantization` is used.
        outputs: names as in `EngineOutput`.
        output_stride: see `MobileNetV1Config.layers_at`.

    Raises:
        ValueError: the checkpoint is not quantized.
    """
    if checkpoint.quantization is None:
        raise ValueError("the checkpoint is not quantized")
    graph = _Graph(checkpoint.quantization, checkpoint.config)
    graph.add("Transpose", [PIXELS], "input/levels", perm=[0, 3, 1, 2])
    source = graph.dequantize("input/levels", checkpoint.quantization.input, "input")
    unmet = set(outputs)
    for layer in checkpoint.config.layers_at(output_stride):
        source = graph.convolution(layer, source)
        if layer.end_point in unmet:
            graph.add("Transpose", [source], layer.end_point, perm=[0, 2, 3, 1])
        unmet.discard(layer.end_point)
        if not unmet:
            break
    if unmet:
        pooled = graph.pooling(layer.key)
        if POOLED in outputs:
            graph.add("Flatten", [pooled], POOLED)
        if LOGITS in outputs:
            graph.add("Flatten", [graph.classifier(pooled)], LOGITS)
    return assemble(graph.nodes, graph.constants, checkpoint.config, outputs)


class _Graph:
    """Nodes and constants so far; each method adds some and returns the name of their output."""

    def __init__(self, quantization: Quantization, config: MobileNetV1Config) -> None:
        self._quantization = quantization
        self._config = config
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def add(self, operator: str, sources: list[str], target: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, sources, [target], name=target, **attributes))
        return target

    def dequantize(self, levels: str, parameters: QuantizationParameters, target: str) -> str:
        names = self._parameters(parameters, target)
        return self.add("DequantizeLinear", [levels, *names], target)

    def quantize(self, source: str, parameters: QuantizationParameters, target: str) -> str:
        return self.add("QuantizeLinear", [source, *self._parameters(parameters, target)], target)

    def convolution(self, layer: ConvLayer, source: str) -> str:
        quantized = self._quantization.layers[layer.key]
        # It pads with the input's zero point, which is the real 0.
        attributes = convolution_attributes(layer, tf_padding=self._config.tf_padding)
        clip_levels = quantized.output.clip_levels(self._config.hidden_act)
        return self._convolution(layer.end_point, quantized, clip_levels, source, **attributes)

    def pooling(self, key: str) -> str:
        """The mean of each channel's levels, exact: whole numbers in float32."""
        last, pooled = self._quantization.layers[key].output, self._quantization.pooled
        self.constants["axes"] = np.array([2, 3], np.int64)
        levels = self.add("Cast", [self._levels], "map/float", to=TensorProto.FLOAT)
        mean = self.add("ReduceMean", [levels, "axes"], "mean", keepdims=1)
        if self._quantization.half_up and last == pooled:
            self.constants["half"] = np.array(0.5, np.float32)
            up = self.add("Floor", [self.add("Add", [mean, "half"], "mean/half")], "mean/up")
            rounded = self.add("Cast", [up], "mean/levels", to=TensorProto.UINT8)
        else:
            self.constants["map/zero_point"] = np.array(last.zero_point, np.float32)
            distance = self.add("Sub", [mean, "map/zero_point"], "mean/distance")
            steps = QuantizationParameters(pooled.scale / last.scale, pooled.zero_point)
            rounded = self.quantize(distance, steps, "mean/levels")
        return self.dequantize(rounded, pooled, "mean/real")

    def classifier(self, pooled: str) -> str:
        classifier = self._quantization.layers[CLASSIFIER]
        return self._convolution(
            CLASSIFIER, classifier, (0, MAX_LEVEL), pooled, kernel_shape=[1, 1]
        )

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
        self.constants |= {
            f"{kernel}/levels": layer.kernel,
            f"{kernel}/scale": np.asarray(scales),
            f"{kernel}/zero_point": np.full(shape, layer.zero_point, np.uint8),
            f"{bias}/levels": layer.bias,
            f"{bias}/scale": layer.bias_scales.reshape(shape),
            f"{bias}/zero_point": np.zeros(shape, np.int32),
        }
        for target in (kernel, bias):
            parts = [f"{target}/{part}" for part in ("levels", "scale", "zero_point")]
            self.add("DequantizeLinear", parts, target, axis=0)
        convolved = self.add("Conv", [source, kernel, bias], f"{name}/convolved", **attributes)
        levels = self.quantize(convolved, layer.output, f"{name}/levels")
        if clip_levels != (0, MAX_LEVEL):
            bounds = [f"{name}/low", f"{name}/high"]
            self.constants |= {
                bound: np.array(level, np.uint8)
                for bound, level in zip(bounds, clip_levels, strict=True)
            }
            levels = self.add("Clip", [levels, *bounds], f"{name}/clipped")
        self._levels = levels
        return self.dequantize(levels, layer.output, f"{name}/real")

    def _parameters(self, parameters: QuantizationParameters, target: str) -> list[str]:
        names = [f"{target}/scale", f"{target}/zero_point"]
        self.constants |= {
            names[0]: np.array(parameters.scale, np.float32),
            names[1]: np.array(parameters.zero_point, np.uint8),
        }
        return names
