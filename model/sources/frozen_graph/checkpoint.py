"""A frozen TensorFlow graph (`.pb`) of TF-Slim's MobileNet V1 -> a checkpoint.

The variables' names are TF-Slim's (tensorflow/models, research/slim/nets/mobilenet_v1.py):
`MobilenetV1/Conv2d_3_depthwise/depthwise_weights`, `.../BatchNorm/gamma`. TensorFlow keeps kernels
as (height, width, in, out), and depthwise ones as (height, width, channels, 1).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.checkpoints.checkpoint import Checkpoint, check_weights
from model.checkpoints.labels import IMAGENET_CLASSES, load_imagenet_labels
from model.errors import InvalidCheckpointError, ModelError
from model.images.preprocessor_config import Preprocessing
from model.network.config import ConvLayer, MobileNetV1Config
from model.network.quantization import Quantization
from model.sources.frozen_graph.constants import ConstantReader
from model.sources.frozen_graph.fake_quant import read_fake_quant_graph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_SCOPE = "MobilenetV1"
_LOGITS = f"{_SCOPE}/Logits/Conv2d_1c_1x1"
_LAST_LAYER = f"{_SCOPE}/Conv2d_13_pointwise/weights"
_FULL_DEPTH = 1024
_TOTAL_STRIDE = 32
_MARGIN = 32  # the short side is that much longer than the crop, as transformers converts it
_DEFAULT_EPSILON = 1e-4  # of FusedBatchNorm, which a stripped graph leaves out
_NAME = re.compile(r"mobilenet_(?:v1_)?\d\.?\d*_(\d{2,4})(?!\d)")
_OTHERS = {  # parts of nodes' names
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


def read_frozen_graph(
    source: Path, data: bytes, *, image_size: int | None = None, dequantize: bool = False
) -> Checkpoint:
    """Read a frozen graph, float or with FakeQuant nodes; see `read_released`.

    Args:
        source: where the graph is from: named in a refusal, and its name may tell the input's size.
        data: the serialized GraphDef.
        image_size: see `read_released`.
        dequantize: see `read_released`.

    Raises:
        InvalidCheckpointError: the file is not such a graph.
        ModelError: the `convert` extra is not installed.
    """
    graph = _parse(source, data)
    _refuse_others(source, graph)
    reader = ConstantReader(source, graph)
    is_quantized = any(node.op.startswith("FakeQuant") for node in graph.node)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            network = (_read_quantized if is_quantized else _read_float)(source, graph, reader)
            side = read_image_size(source, graph, image_size)
            config = network.create_config(side)
            preprocessing = Preprocessing.model_validate(
                {"size": side + _MARGIN, "crop_size": side}
            )
            weights = network.create_weights(config)
    except (IndexError, TypeError, ValueError) as error:  # shapes that no MobileNet V1 has
        raise InvalidCheckpointError(f"{source}: is damaged, or not a MobileNet V1") from error
    check_weights(source, weights, config)
    quantization = None if dequantize else network.quantization
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(source.name, config, preprocessing, weights, digest, quantization)


@dataclass(frozen=True, slots=True)
class _Network:
    """What a graph says; depth is the number of the last layer's channels."""

    depth: int
    classes: int
    hidden_act: str
    create_weights: Callable[[MobileNetV1Config], dict[str, NDArray[np.float32]]]
    epsilon: float = MobileNetV1Config().layer_norm_eps
    quantization: Quantization | None = None

    def create_config(self, side: int) -> MobileNetV1Config:
        return MobileNetV1Config(
            image_size=side,
            depth_multiplier=self.depth / _FULL_DEPTH,
            hidden_act=self.hidden_act,
            layer_norm_eps=self.epsilon,
            id2label=_create_id2label(self.classes),
        )


def _read_float(source: Path, graph: Any, reader: ConstantReader) -> _Network:
    classifier = _read_classifier(reader)

    def create_weights(config: MobileNetV1Config) -> dict[str, NDArray[np.float32]]:
        weights = dict(classifier)
        for layer in config.layers:
            weights |= _read_layer(reader, layer)
        return weights

    return _Network(
        depth=reader.read(_LAST_LAYER).shape[-1],
        classes=classifier["classifier.bias"].shape[0] if classifier else 0,
        hidden_act="relu" if _only_relu(graph) else "relu6",
        create_weights=create_weights,
        epsilon=_epsilon(source, graph, reader),
    )


def _read_quantized(source: Path, graph: Any, reader: ConstantReader) -> _Network:
    try:
        network = read_fake_quant_graph(graph, reader.read, MobileNetV1Config().layers)
    except InvalidCheckpointError as error:
        raise _no_quantized(source, error) from error

    def create_weights(config: MobileNetV1Config) -> dict[str, NDArray[np.float32]]:
        try:
            network.quantization.check(config)
        except InvalidCheckpointError as error:
            raise _no_quantized(source, error) from error
        return network.quantization.dequantize(config)

    return _Network(
        network.depth,
        network.classes,
        network.hidden_act,
        create_weights,
        quantization=network.quantization,
    )


def _no_quantized(source: Path, error: InvalidCheckpointError) -> InvalidCheckpointError:
    text = str(error).removeprefix(f"{source}: ")
    return InvalidCheckpointError(f"{source}: is not a quantized MobileNet V1: {text}")


def _create_id2label(classes: int) -> dict[int, str]:
    """ImageNet's classes with the background, told by their number; others have no names here."""
    if classes == IMAGENET_CLASSES:
        return {label.class_id: label.label for label in load_imagenet_labels()}
    return {class_id: f"LABEL_{class_id}" for class_id in range(classes)}


def _read_classifier(reader: ConstantReader) -> dict[str, NDArray[np.float32]]:
    """The weights of the classification layer; none of a feature extractor."""
    if not reader.names & {f"{_LOGITS}/weights", f"{_LOGITS}/biases"}:
        return {}
    return {
        "classifier.weight": reader.read(f"{_LOGITS}/weights")[0, 0].T,
        "classifier.bias": reader.read(f"{_LOGITS}/biases"),
    }


def _read_layer(reader: ConstantReader, layer: ConvLayer) -> dict[str, NDArray[np.float32]]:
    """The weights of one layer under transformers' names and in its layout."""
    scope = f"{_SCOPE}/{layer.end_point}"
    if layer.groups > 1:
        kernel = reader.read(f"{scope}/depthwise_weights").transpose(2, 3, 0, 1)
    else:
        kernel = reader.read(f"{scope}/weights").transpose(3, 2, 0, 1)
    weights = {f"{layer.key}.convolution.weight": kernel}
    for ours, theirs in _BATCH_NORM.items():
        weights[f"{layer.key}.normalization.{ours}"] = reader.read(f"{scope}/BatchNorm/{theirs}")
    return weights


def _parse(source: Path, data: bytes) -> Any:
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
        raise InvalidCheckpointError(f"{source}: is not a TensorFlow graph, or is cut") from error


def _refuse_others(source: Path, graph: Any) -> None:
    for marks, what in _OTHERS.items():
        if any(mark in node.name for node in graph.node for mark in marks):
            raise InvalidCheckpointError(f"{source}: is {what}, not a MobileNet V1")


def read_image_size(source: Path, graph: Any, given: int | None = None) -> int:
    """The input's side in pixels, told by the graph, given, or told by a name.

    Google's names end in multiplier and size.

    Raises:
        InvalidCheckpointError: nothing tells, or the graph tells another than is given.
    """
    told = _side_of_graph(graph)
    if told and given not in (None, told):
        raise InvalidCheckpointError(f"{source}: tells its image size, {told}, not {given}")
    if side := told or given:
        return side
    for name in (source.name, source.parent.name):
        if match := _NAME.search(name):
            return int(match[1])
    raise InvalidCheckpointError(f"{source}: does not tell its input's side; give --image-size")


def _side_of_graph(graph: Any) -> int | None:
    """What the placeholder tells, or the last pooling, which covers the whole last map."""
    for node in graph.node:
        if node.op == "Placeholder":
            sides = [dim.size for dim in node.attr["shape"].shape.dim][1:3]
            if len(set(sides)) == 1 and sides[0] > 0:
                return int(sides[0])
    for node in graph.node:
        if node.op == "AvgPool" and (kernel := node.attr["ksize"].list.i[1:3]):
            return int(kernel[0]) * _TOTAL_STRIDE
    return None


def _only_relu(graph: Any) -> bool:
    operators = {node.op for node in graph.node}
    return "Relu" in operators and "Relu6" not in operators


def _epsilon(source: Path, graph: Any, reader: ConstantReader) -> float:
    """BatchNorm's epsilon: an attribute of the fused operation, or a constant that is added."""
    for node in graph.node:
        if node.op.startswith("FusedBatchNorm"):
            epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else _DEFAULT_EPSILON
            return round(float(epsilon), 9)
        if node.op == "Const" and node.name.endswith("BatchNorm/batchnorm/add/y"):
            return round(float(reader.read(node.name)), 9)
    raise InvalidCheckpointError(f"{source}: has no BatchNorm")
