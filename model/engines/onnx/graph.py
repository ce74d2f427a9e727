"""The ONNX graph of a network, node by node: no export, no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from onnx import TensorProto, checker, helper, numpy_helper

from model.network.config import LOGITS, POOLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, ValueInfoProto

    from model.network.config import ConvLayer, MobileNetV1Config

PIXELS = "pixels"
"""Name of the input: uint8, (n, height, width, 3)."""

_OPSET, _IR_VERSION = 20, 10


class Graph(ABC):
    """Nodes and constants so far; each method adds some and returns the name of their output."""

    def __init__(self, config: MobileNetV1Config) -> None:
        self._config = config
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def create_model(self, outputs: Sequence[str], output_stride: int) -> ModelProto:
        """Write the network from pixels to the outputs, no deeper than they need, and check it."""
        source, unmet = self._read_pixels(), set(outputs)
        for layer in self._config.layers_at(output_stride):
            source = self._layer(layer, source)
            if layer.end_point in unmet:
                self._add("Transpose", [source], layer.end_point, perm=[0, 2, 3, 1])
            unmet.discard(layer.end_point)
            if not unmet:
                break
        if unmet:
            self._head(source, outputs)
        pixels = "batch", "height", "width", self._config.num_channels
        graph = helper.make_graph(
            self._nodes,
            "mobilenet_v1",
            inputs=[helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, pixels)],
            outputs=list(map(self._describe, outputs)),
            initializer=[
                numpy_helper.from_array(value, name) for name, value in self._constants.items()
            ],
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        checker.check_model(model)
        return model

    @abstractmethod
    def _read_pixels(self) -> str:
        """Make the first layer's input of the pixels, channels first."""

    @abstractmethod
    def _layer(self, layer: ConvLayer, source: str) -> str:
        """Convolve and activate."""

    @abstractmethod
    def _head(self, source: str, outputs: Sequence[str]) -> None:
        """Compute `pooled` and, if it is wanted, `logits` of the last map."""

    def _add(self, operator: str, sources: list[str], target: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, sources, [target], name=target, **attributes))
        return target

    def _convolution_attributes(self, layer: ConvLayer) -> dict[str, Any]:
        # ONNX Runtime refuses SAME_UPPER with dilation; a dilated layer has no stride, so SAME is
        # even.
        padding: dict[str, Any] = (
            {"auto_pad": "SAME_UPPER"}
            if self._config.tf_padding and layer.rate == 1
            else {"pads": [layer.kernel_size // 2 * layer.rate] * 4}
        )
        return {
            "kernel_shape": [layer.kernel_size] * 2,
            "strides": [layer.stride] * 2,
            "dilations": [layer.rate] * 2,
            "group": layer.groups,
            **padding,
        }

    def _describe(self, output: str) -> ValueInfoProto:
        shapes: dict[str, list[str | int]] = {
            LOGITS: ["batch", self._config.num_labels],
            POOLED: ["batch", self._config.num_features],
        }
        shape = shapes.get(output, ["batch", f"{output}/height", f"{output}/width", "channels"])
        return helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
