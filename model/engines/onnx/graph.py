"""A checkpoint -> an ONNX graph, written node by node: no export, no torch.

Pixels enter as uint8 (n, height, width, channels) and are scaled by the first nodes. BatchNorm is
folded into the convolutions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from model.errors import UnsupportedModelError
from model.network.config import LOGITS, POOLED
from model.network.folding import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer, MobileNetV1Config

_Constants = dict[str, "NDArray[Any] | np.float32"]

OPSET = 20
PIXELS = "pixels"
CHANNELS = "channels"


def _simple(operator: str, **attributes: Any) -> Callable[[str, str], list[NodeProto]]:
    return lambda source, target: [helper.make_node(operator, [source], [target], **attributes)]


def _swish(source: str, target: str) -> list[NodeProto]:
    gate = f"{target}/gate"
    return [
        helper.make_node("Sigmoid", [source], [gate]),
        helper.make_node("Mul", [source, gate], [target]),
    ]


def _relu6(source: str, target: str) -> list[NodeProto]:
    return [helper.make_node("Clip", [source, "zero", "six"], [target])]


ACTIVATIONS: dict[str, Callable[[str, str], list[NodeProto]]] = {
    "gelu": _simple("Gelu"),
    "hardswish": _simple("HardSwish"),
    "leaky_relu": _simple("LeakyRelu", alpha=0.01),
    "linear": _simple("Identity"),
    "mish": _simple("Mish"),
    "relu": _simple("Relu"),
    "relu6": _relu6,
    "sigmoid": _simple("Sigmoid"),
    "silu": _swish,
    "swish": _swish,
    "tanh": _simple("Tanh"),
}
"""The values of `hidden_act` that this engine knows, and the nodes that compute them."""


def create_graph(
    checkpoint: Checkpoint,
    outputs: Sequence[str] = (LOGITS, POOLED),
    output_stride: int = 32,
) -> ModelProto:
    """Write a checkpoint as an ONNX model, no deeper than the outputs need.

    Args:
        checkpoint: float32 weights.
        outputs: names as in `EngineOutput`.
        output_stride: see `MobileNetV1Config.layers_at`.

    Raises:
        UnsupportedModelError: the graph has no nodes for the checkpoint's `hidden_act`.
    """
    config = checkpoint.config
    if (activation := config.hidden_act) not in ACTIVATIONS:
        known = sorted(ACTIVATIONS)
        raise UnsupportedModelError(
            f"hidden_act {activation!r} is not known to the onnx engine; known are {known}"
        )
    constants: _Constants = {"zero": np.float32(0), "six": np.float32(6)}
    nodes = _input(checkpoint, constants)
    source, unmet = "input", set(outputs)
    for layer in config.layers_at(output_stride):
        kernel, bias = fold(checkpoint.weights, layer, config.layer_norm_eps)
        constants |= {f"{layer.key}.weight": kernel, f"{layer.key}.bias": bias}
        nodes += _convolution(layer, config, source)
        source = _map_name(layer)
        if layer.end_point in outputs:
            nodes.append(
                helper.make_node("Transpose", [source], [layer.end_point], perm=[0, 2, 3, 1])
            )
        unmet.discard(layer.end_point)
        if not unmet:
            break
    if unmet:
        nodes += _head(checkpoint, constants, source, outputs)
    return _model(nodes, constants, config, outputs)


def _input(checkpoint: Checkpoint, constants: _Constants) -> list[NodeProto]:
    """From pixels to what the stem reads: scaled, and channels first."""
    constants["scale"], constants["offset"] = checkpoint.preprocessing.scale_and_offset()
    return [
        helper.make_node("Cast", [PIXELS], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "offset"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["input"], perm=[0, 3, 1, 2]),
    ]


def _head(
    checkpoint: Checkpoint, constants: _Constants, source: str, outputs: Sequence[str]
) -> list[NodeProto]:
    nodes = [
        helper.make_node("GlobalAveragePool", [source], ["mean"]),
        helper.make_node("Flatten", ["mean"], [POOLED]),
    ]
    if LOGITS in outputs:
        names = ["classifier.weight", "classifier.bias"]
        constants |= {name: checkpoint.weights[name] for name in names}
        nodes.append(helper.make_node("Gemm", [POOLED, *names], [LOGITS], transB=1))
    return nodes


def _map_name(layer: ConvLayer) -> str:
    return f"{layer.end_point}/map"


def _convolution(layer: ConvLayer, config: MobileNetV1Config, source: str) -> list[NodeProto]:
    # ONNX Runtime refuses SAME_UPPER with dilation; a dilated layer has no stride, so SAME is even.
    padding: dict[str, Any] = (
        {"auto_pad": "SAME_UPPER"}
        if config.tf_padding and layer.rate == 1
        else {"pads": [layer.kernel_size // 2 * layer.rate] * 4}
    )
    convolved = f"{layer.end_point}/convolved"
    node = helper.make_node(
        "Conv",
        [source, f"{layer.key}.weight", f"{layer.key}.bias"],
        [convolved],
        name=layer.end_point,
        kernel_shape=[layer.kernel_size] * 2,
        strides=[layer.stride] * 2,
        dilations=[layer.rate] * 2,
        group=layer.groups,
        **padding,
    )
    return [node, *ACTIVATIONS[config.hidden_act](convolved, _map_name(layer))]


def _model(
    nodes: list[NodeProto],
    constants: _Constants,
    config: MobileNetV1Config,
    outputs: Sequence[str],
) -> ModelProto:
    def shape(name: str) -> list[str | int]:
        if name == LOGITS:
            return ["batch", config.num_labels]
        if name == POOLED:
            return ["batch", config.num_features]
        return ["batch", f"{name}/height", f"{name}/width", CHANNELS]

    graph = helper.make_graph(
        nodes,
        "mobilenet_v1",
        inputs=[
            helper.make_tensor_value_info(
                PIXELS, TensorProto.UINT8, ["batch", "height", "width", config.num_channels]
            )
        ],
        outputs=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape(name)) for name in outputs
        ],
        initializer=[
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(model)
    return model
