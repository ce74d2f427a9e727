"""Assembles ONNX models: what the float and the quantized graph have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from model.network.config import LOGITS, POOLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto, NodeProto

    from model.network.config import ConvLayer, MobileNetV1Config

PIXELS = "pixels"
"""Name of the input: uint8, (n, height, width, 3)."""

_OPSET, _IR_VERSION = 20, 10


def convolution_attributes(layer: ConvLayer, *, tf_padding: bool) -> dict[str, Any]:
    """Attributes of a layer's Conv node."""
    # ONNX Runtime refuses SAME_UPPER with dilation; a dilated layer has no stride, so SAME is even.
    padding: dict[str, Any] = (
        {"auto_pad": "SAME_UPPER"}
        if tf_padding and layer.rate == 1
        else {"pads": [layer.kernel_size // 2 * layer.rate] * 4}
    )
    return {
        "kernel_shape": [layer.kernel_size] * 2,
        "strides": [layer.stride] * 2,
        "dilations": [layer.rate] * 2,
        "group": layer.groups,
        **padding,
    }


def assemble(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any],
    config: MobileNetV1Config,
    outputs: Sequence[str],
) -> ModelProto:
    """Assemble a model from pixels to the outputs, and check it.

    Args:
        nodes: in the order of computation.
        constants: arrays and NumPy scalars by name.
        config: of the network.
        outputs: names as in `EngineOutput`.
    """

    def shape(name: str) -> list[str | int]:
        if name == LOGITS:
            return ["batch", config.num_labels]
        if name == POOLED:
            return ["batch", config.num_features]
        return ["batch", f"{name}/height", f"{name}/width", "channels"]

    pixels_shape: list[str | int] = ["batch", "height", "width", config.num_channels]
    graph = helper.make_graph(
        nodes,
        "mobilenet_v1",
        inputs=[helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, pixels_shape)],
        outputs=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape(name)) for name in outputs
        ],
        initializer=[
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    checker.check_model(model)
    return model
