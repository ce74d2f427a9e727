"""A quantized checkpoint -> an ONNX graph that ONNX Runtime runs as integers.

Every convolution stands between DequantizeLinear and QuantizeLinear nodes, which is how ONNX says
that it works on 8-bit levels; ONNX Runtime fuses the three into a QLinearConv. Its arithmetic is
that of XNNPACK in LiteRT: exact sums in int32, times a float32 multiplier, rounded half to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from model.network.config import LOGITS, POOLED
from model.network.quantization import CLASSIFIER, MAX_LEVEL, QuantizationParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer
    from model.network.quantization import Quantization, QuantizedLayer

OPSET = 20
PIXELS = "pixels"


def create_graph(
    checkpoint: Checkpoint, outputs: Sequence[str] = (LOGITS, POOLED), output_stride: int = 32
) -> ModelProto:
    """Write a quantized checkpoint as an ONNX model; each byte of a picture is an input level.

    Args:
        checkpoint: with its `quantization`.
        outputs: `logits`, `pooled` and names of end points, as real numbers. An end point's map is
            (n, height, width, channels). Nothing after the deepest of them is in the graph.
        output_stride: see `MobileNetV1Config.layers_at`.

    Raises:
        ValueError: the checkpoint is not quantized.
    """
    if checkpoint.quantization is None:
        raise ValueError("the checkpoint is not quantized")
    graph = _Graph(checkpoint.quantization)
    graph.add("Transpose", [PIXELS], "input/levels", perm=[0, 3, 1, 2])
    source = graph.dequantize("input/levels", checkpoint.quantization.input, "input")
    unmet = set(outputs)
    for layer in checkpoint.config.layers_at(output_stride):
        source = graph.convolution(layer, checkpoint.config.hidden_act, source)
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
    return graph.model(checkpoint, outputs)


class _Graph:
    """The nodes and constants so far; each method adds some and returns what they write."""

    def __init__(self, quantization: Quantization) -> None:
        self._quantization = quantization
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def add(self, operator: str, sources: list[str], target: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, sources, [target], name=target, **attributes))
        return target

    def dequantize(self, levels: str, parameters: QuantizationParameters, target: str) -> str:
        names = self._parameters(parameters, target)
        return self.add("DequantizeLinear", [levels, *names], target)

    def quantize(self, source: str, parameters: QuantizationParameters, target: str) -> str:
        return self.add("QuantizeLinear", [source, *self._parameters(parameters, target)], target)

    def convolution(self, layer: ConvLayer, hidden_act: str, source: str) -> str:
        quantized = self._quantization.layers[layer.key]
        # ONNX Runtime refuses SAME_UPPER with dilation; a dilated layer has no stride, so SAME is
        # even. Either way it pads with the input's zero point, which is the real 0.
        padding: dict[str, Any] = (
            {"auto_pad": "SAME_UPPER"}
            if layer.rate == 1
            else {"pads": [layer.kernel_size // 2 * layer.rate] * 4}
        )
        return self._convolution(
            layer.end_point,
            quantized,
            quantized.output.clip_levels(hidden_act),
            source,
            kernel_shape=[layer.kernel_size] * 2,
            strides=[layer.stride] * 2,
            dilations=[layer.rate] * 2,
            group=layer.groups,
            **padding,
        )

    def pooling(self, key: str) -> str:
        """The mean of each channel's levels, which whole numbers in float32 give exactly."""
        last, pooled = self._quantization.layers[key].output, self._quantization.pooled
        self._constants["axes"] = np.array([2, 3], np.int64)
        levels = self.add("Cast", [self._levels], "map/float", to=TensorProto.FLOAT)
        mean = self.add("ReduceMean", [levels, "axes"], "mean", keepdims=1)
        if self._quantization.half_up and last == pooled:
            self._constants["half"] = np.array(0.5, np.float32)
            up = self.add("Floor", [self.add("Add", [mean, "half"], "mean/half")], "mean/up")
            rounded = self.add("Cast", [up], "mean/levels", to=TensorProto.UINT8)
        else:
            self._constants["map/zero_point"] = np.array(last.zero_point, np.float32)
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
        self._constants |= {
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
            self._constants |= {
                bound: np.array(level, np.uint8)
                for bound, level in zip(bounds, clip_levels, strict=True)
            }
            levels = self.add("Clip", [levels, *bounds], f"{name}/clipped")
        self._levels = levels
        return self.dequantize(levels, layer.output, f"{name}/real")

    def _parameters(self, parameters: QuantizationParameters, target: str) -> list[str]:
        names = [f"{target}/scale", f"{target}/zero_point"]
        self._constants |= {
            names[0]: np.array(parameters.scale, np.float32),
            names[1]: np.array(parameters.zero_point, np.uint8),
        }
        return names

    def model(self, checkpoint: Checkpoint, outputs: Sequence[str]) -> ModelProto:
        config = checkpoint.config

        def shape(name: str) -> list[str | int]:
            if name == LOGITS:
                return ["batch", config.num_labels]
            if name == POOLED:
                return ["batch", config.num_features]
            return ["batch", f"{name}/height", f"{name}/width", "channels"]

        graph = helper.make_graph(
            self._nodes,
            "mobilenet_v1_quantized",
            inputs=[
                helper.make_tensor_value_info(
                    PIXELS, TensorProto.UINT8, ["batch", "height", "width", config.num_channels]
                )
            ],
            outputs=[
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape(name))
                for name in outputs
            ],
            initializer=[
                numpy_helper.from_array(value, name) for name, value in self._constants.items()
            ],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        checker.check_model(model)
        return model
