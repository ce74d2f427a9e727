"""Reads a frozen TensorFlow graph (`.pb`) of TF-Slim's MobileNet V1.

The variables' names are TF-Slim's (tensorflow/models, research/slim/nets/mobilenet_v1.py):
`MobilenetV1/Conv2d_3_depthwise/depthwise_weights`, `.../BatchNorm/gamma`. TensorFlow keeps kernels
as (height, width, in, out), and depthwise ones as (height, width, channels, 1).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.labels import name_classes
from model.errors import InvalidCheckpointError, ModelError
from model.images.preprocessor_config import Preprocessing
from model.network.config import (
    CLASSIFIER,
    FULL_DEPTH,
    OUTPUT_STRIDES,
    ConvLayer,
    MobileNetV1Config,
)
from model.network.quantization import Quantization
from model.sources.frozen_graph.constants import Constants
from model.sources.frozen_graph.fake_quant import read_fake_quant

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    _Network = tuple[MobileNetV1Config, dict[str, NDArray[np.float32]], Quantization | None]

_SCOPE = "MobilenetV1"
_LOGITS = f"{_SCOPE}/Logits/Conv2d_1c_1x1"
_LAST_LAYER = f"{_SCOPE}/Conv2d_13_pointwise/weights"
_MARGIN = 32  # pixels by which the short side exceeds the crop, as transformers converts it
_DEFAULT_EPSILON = 1e-4  # of FusedBatchNorm, which a stripped graph leaves out
_NAME = re.compile(r"mobilenet_(?:v1_)?\d\.?\d*_(\d{2,4})(?!\d)")
_OTHERS = {  # by parts of their nodes' names
    ("BoxPredictor", "BoxEncodingPredictor", "FeatureExtractor/", "Postprocessor/"): "a detector",
    ("MobilenetV2/",): "a MobileNet V2",
    ("MobilenetV3/",): "a MobileNet V3",
}
_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def read_frozen_graph(source: Path, data: bytes, *, image_size: int | None = None) -> Checkpoint:
    """Read a frozen graph, float or with FakeQuant nodes; its weights are not checked.

    Args:
        source: its name may tell the input's size.
        data: the serialized GraphDef.
        image_size: side of the input in pixels, if the graph does not tell it.

    Raises:
        InvalidCheckpointError: the file is not such a graph.
        ModelError: the `convert` extra is not installed.
    """
    graph = _parse(data)
    for marks, what in _OTHERS.items():
        if any(mark in node.name for node in graph.node for mark in marks):
            raise InvalidCheckpointError(f"is {what}, not a MobileNet V1")
    is_quantized = any(node.op.startswith("FakeQuant") for node in graph.node)
    read = _read_quantized if is_quantized else _read_float
    try:
        with np.errstate(all="ignore"):  # the caller refuses what is not finite
            config, weights, quantization = read(graph)
            side = _declared_side(graph) or image_size or _named_side(source)
            preprocessing = Preprocessing.model_validate(
                {"size": side + _MARGIN, "crop_size": side}
            )
    except (IndexError, TypeError, ValueError) as error:  # shapes that no MobileNet V1 has
        raise InvalidCheckpointError("is damaged, or not a MobileNet V1") from error
    config = config.model_copy(update={"image_size": side})
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(source.name, config, preprocessing, weights, digest, quantization)


def _read_float(graph: Any) -> _Network:
    constants = Constants(graph)
    weights = {}
    if constants.has(f"{_LOGITS}/weights") or constants.has(f"{_LOGITS}/biases"):
        weights["classifier.weight"] = constants.read(f"{_LOGITS}/weights")[0, 0].T
        weights["classifier.bias"] = constants.read(f"{_LOGITS}/biases")
    operators = {node.op for node in graph.node}
    config = MobileNetV1Config(
        depth_multiplier=constants.read(_LAST_LAYER).shape[-1] / FULL_DEPTH,
        hidden_act="relu" if "Relu" in operators and "Relu6" not in operators else "relu6",
        layer_norm_eps=_read_epsilon(graph, constants),
        id2label=name_classes(weights["classifier.bias"].shape[0] if weights else 0),
    )
    for layer in config.layers:
        weights |= _read_layer(constants, layer)
    return config, weights, None


def _read_quantized(graph: Any) -> _Network:
    try:
        quantization, hidden_act = read_fake_quant(graph)
        *_, last = MobileNetV1Config().layers
        classifier = quantization.layers.get(CLASSIFIER)
        config = MobileNetV1Config(
            depth_multiplier=len(quantization.layers[last.key].bias) / FULL_DEPTH,
            hidden_act=hidden_act,
            id2label=name_classes(len(classifier.bias) if classifier else 0),
        )
        quantization.check(config)
    except InvalidCheckpointError as error:
        raise InvalidCheckpointError(f"is not a quantized MobileNet V1: {error}") from error
    return config, quantization.dequantize(config), quantization


def _read_layer(constants: Constants, layer: ConvLayer) -> dict[str, NDArray[np.float32]]:
    """One layer's weights under transformers' names and in its layout."""
    scope = f"{_SCOPE}/{layer.end_point}"
    if layer.groups > 1:
        kernel = constants.read(f"{scope}/depthwise_weights").transpose(2, 3, 0, 1)
    else:
        kernel = constants.read(f"{scope}/weights").transpose(3, 2, 0, 1)
    weights = {f"{layer.key}.convolution.weight": kernel}
    for ours, theirs in _BATCH_NORM.items():
        weights[f"{layer.key}.normalization.{ours}"] = constants.read(f"{scope}/BatchNorm/{theirs}")
    return weights


def _read_epsilon(graph: Any, constants: Constants) -> float:
    """BatchNorm's epsilon: an attribute of the fused operation, or a constant that is added."""
    for node in graph.node:
        if node.op.startswith("FusedBatchNorm"):
            epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else _DEFAULT_EPSILON
            return round(float(epsilon), 9)
        if node.op == "Const" and node.name.endswith("BatchNorm/batchnorm/add/y"):
            return round(float(constants.read(node.name)), 9)
    raise InvalidCheckpointError("has no BatchNorm")


def _declared_side(graph: Any) -> int | None:
    """The placeholder's side, or that of the last pooling, which covers the whole last map."""
    for node in graph.node:
        if node.op == "Placeholder":
            sides = [dim.size for dim in node.attr["shape"].shape.dim][1:3]
            if len(set(sides)) == 1 and sides[0] > 0:
                return int(sides[0])
    for node in graph.node:
        if node.op == "AvgPool" and (kernel := node.attr["ksize"].list.i[1:3]):
            return int(kernel[0]) * OUTPUT_STRIDES[0]
    return None


def _named_side(source: Path) -> int:
    """The side that Google's name of the file or its folder tells."""
    for name in (source.name, source.parent.name):
        if match := _NAME.search(name):
            return int(match[1])
    raise InvalidCheckpointError("does not declare its input size; give --image-size")


def _parse(data: bytes) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.graph_pb2 import GraphDef
    except ImportError as error:
        raise ModelError(
            "a frozen graph needs the `convert` extra: pip install -e '.[convert]'"
        ) from error
    try:
        return GraphDef.FromString(data)
    except DecodeError as error:
        raise InvalidCheckpointError("is not a TensorFlow graph, or is cut") from error
