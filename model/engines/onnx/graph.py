"""Writes a float checkpoint as an ONNX model, node by node: no export, no torch.

The first nodes scale the pixels. BatchNorm is folded into the convolutions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from model.engines.onnx.model import PIXELS, assemble, convolution_attributes
from model.errors import UnsupportedModelError
from model.network.config import LOGITS, POOLED
from model.network.folding import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from model.checkpoints.checkpoint import Checkpoint

_Constants = dict[str, "NDArray[Any] | np.float32"]


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
        checkpoint: its float weights are used.
        outputs: names as in `EngineOutput`.
        output_stride: see `MobileNetV1Config.layers_at`.

    Raises:
        UnsupportedModelError: no nodes are known for the checkpoint's `hidden_act`.
    """
    config = checkpoint.config
    if config.hidden_act not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"hidden_act {config.hidden_act!r} is not known to the onnx engine; "
            f"known are {sorted(ACTIVATIONS)}"
        )
    activate = ACTIVATIONS[config.hidden_act]
    constants: _Constants = {"zero": np.float32(0), "six": np.float32(6)}
    nodes = _scale_pixels(checkpoint, constants)
    source, unmet = "input", set(outputs)
    for layer in config.layers_at(output_stride):
        weights = [f"{layer.key}.weight", f"{layer.key}.bias"]
        folded = fold(checkpoint.weights, layer, config.layer_norm_eps)
        constants |= dict(zip(weights, folded, strict=True))
        convolved, target = f"{layer.end_point}/convolved", f"{layer.end_point}/map"
        attributes = convolution_attributes(layer, tf_padding=config.tf_padding)
        nodes.append(
            helper.make_node(
                "Conv", [source, *weights], [convolved], name=layer.end_point, **attributes
            )
        )
        nodes += activate(convolved, target)
        source = target
        if layer.end_point in unmet:
            nodes.append(
                helper.make_node("Transpose", [source], [layer.end_point], perm=[0, 2, 3, 1])
            )
        unmet.discard(layer.end_point)
        if not unmet:
            break
    if unmet:
        nodes += _head(checkpoint, constants, source, outputs)
    return assemble(nodes, constants, config, outputs)


def _scale_pixels(checkpoint: Checkpoint, constants: _Constants) -> list[NodeProto]:
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
