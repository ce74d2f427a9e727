"""A frozen TensorFlow graph (`.pb`) of TF-Slim's MobileNet V1 -> a checkpoint directory.

The variables' names are TF-Slim's (tensorflow/models, research/slim/nets/mobilenet_v1.py):
`MobilenetV1/Conv2d_3_depthwise/depthwise_weights`, `.../BatchNorm/gamma`. TensorFlow keeps kernels
as (height, width, in, out), and depthwise ones as (height, width, channels, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from model.checkpoint import check_weights, save_checkpoint
from model.config import ConvLayer, MobileNetV1Config
from model.errors import InvalidCheckpointError, ModelError
from model.importers.fake_quant_graph import read_fake_quant_graph
from model.labels import IMAGENET_CLASSES, load_imagenet_labels
from model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SCOPE = "MobilenetV1"
_LOGITS = f"{_SCOPE}/Logits/Conv2d_1c_1x1"
_LAST_LAYER = f"{_SCOPE}/Conv2d_13_pointwise/weights"
_FULL_DEPTH = 1024
_TOTAL_STRIDE = 32
_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def import_frozen_graph(source: Path, directory: Path, *, dequantize: bool = False) -> None:
    """Convert a frozen graph, float or with FakeQuant nodes; see `import_checkpoint`.

    Raises:
        InvalidCheckpointError: the file is not such a graph.
        ModelError: the `convert` extra is not installed.
    """
    graph = _parse(source)
    try:
        if any(node.op.startswith("FakeQuant") for node in graph.node):
            _convert_quantized(source, graph, directory, dequantize=dequantize)
        else:
            _convert(source, graph, directory)
    except (IndexError, ValueError) as error:  # constants in shapes that no MobileNet V1 has
        raise InvalidCheckpointError(f"{source}: is damaged, or not a MobileNet V1") from error


def _convert(source: Path, graph: Any, directory: Path) -> None:
    constants = {node.name: node for node in graph.node if node.op == "Const"}
    reader = _Reader(source, constants)
    classes = reader.read(f"{_LOGITS}/biases").shape[0]
    labels = load_imagenet_labels()
    if classes != len(labels):
        raise InvalidCheckpointError(f"{source}: has {classes} classes instead of {len(labels)}")
    side = _image_side(source, graph)
    config = MobileNetV1Config(
        image_size=side,
        depth_multiplier=reader.read(_LAST_LAYER).shape[-1] / _FULL_DEPTH,
        layer_norm_eps=_epsilon(source, graph, reader),
        id2label={label.class_id: label.label for label in labels},
    )
    weights: dict[str, NDArray[np.float32]] = {}
    for layer in config.layers:
        weights |= reader.layer(layer)
    weights["classifier.weight"] = reader.read(f"{_LOGITS}/weights")[0, 0].T
    weights["classifier.bias"] = reader.read(f"{_LOGITS}/biases")
    preprocessing = Preprocessing.model_validate(
        {"size": {"shortest_edge": side + 32}, "crop_size": {"height": side, "width": side}}
    )
    check_weights(source, weights, config)
    save_checkpoint(directory, config, preprocessing, weights)


def _convert_quantized(source: Path, graph: Any, directory: Path, *, dequantize: bool) -> None:
    constants = {node.name: node for node in graph.node if node.op == "Const"}
    reader, side = _Reader(source, constants), _image_side(source, graph)
    try:
        network = read_fake_quant_graph(graph, reader.read, MobileNetV1Config().layers)
        config = MobileNetV1Config(
            image_size=side,
            depth_multiplier=network.depth / _FULL_DEPTH,
            hidden_act=network.hidden_act,
            id2label=_create_id2label(network.classes),
        )
        network.quantization.check(config)
    except InvalidCheckpointError as error:
        text = str(error).removeprefix(f"{source}: ")
        raise InvalidCheckpointError(
            f"{source}: is not a quantized MobileNet V1: {text}"
        ) from error
    weights = network.quantization.dequantize(config)
    preprocessing = Preprocessing.model_validate(
        {"size": {"shortest_edge": side + 32}, "crop_size": {"height": side, "width": side}}
    )
    check_weights(source, weights, config)
    quantization = None if dequantize else network.quantization
    save_checkpoint(directory, config, preprocessing, weights, quantization)


def _create_id2label(classes: int) -> dict[int, str]:
    """ImageNet's classes with the background, told by their number; others have no names here."""
    if classes == IMAGENET_CLASSES:
        return {label.class_id: label.label for label in load_imagenet_labels()}
    return {class_id: f"LABEL_{class_id}" for class_id in range(classes)}


class _Reader:
    """The constants of one graph, by name."""

    def __init__(self, source: Path, constants: dict[str, Any]) -> None:
        self._source = source
        self._constants = constants

    def read(self, name: str) -> NDArray[np.float32]:
        """A float32 constant, in TensorFlow's own layout."""
        if name not in self._constants:
            raise InvalidCheckpointError(f"{self._source}: is not a MobileNet V1 (no {name})")
        tensor = self._constants[name].attr["value"].tensor
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        values = (
            np.frombuffer(tensor.tensor_content, "<f4")
            if tensor.tensor_content
            else np.asarray(tensor.float_val, np.float32)
        )
        if values.size == 1:  # a constant whose values are all the same is stored once
            return np.full(shape, values[0], np.float32)
        if values.size != np.prod(shape):
            raise InvalidCheckpointError(f"{self._source}: {name} is damaged")
        return values.reshape(shape)

    def layer(self, layer: ConvLayer) -> dict[str, NDArray[np.float32]]:
        """The weights of one layer under transformers' names and in its layout."""
        scope = f"{_SCOPE}/{layer.end_point}"
        if layer.groups > 1:
            kernel = self.read(f"{scope}/depthwise_weights").transpose(2, 3, 0, 1)
        else:
            kernel = self.read(f"{scope}/weights").transpose(3, 2, 0, 1)
        weights = {f"{layer.key}.convolution.weight": kernel}
        for ours, theirs in _BATCH_NORM.items():
            weights[f"{layer.key}.normalization.{ours}"] = self.read(f"{scope}/BatchNorm/{theirs}")
        return weights


def _parse(source: Path) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.graph_pb2 import GraphDef
    except ImportError as error:
        raise ModelError(
            "a frozen graph needs the `convert` extra: pip install 'mobilenet-serve[convert]'"
        ) from error
    try:
        return GraphDef.FromString(source.read_bytes())
    except (DecodeError, OSError) as error:
        raise InvalidCheckpointError(f"{source}: is not a TensorFlow graph") from error


def _image_side(source: Path, graph: Any) -> int:
    """The input's side in pixels, told by the last pooling: it covers the whole last map."""
    for node in graph.node:
        if node.op == "AvgPool":
            return int(node.attr["ksize"].list.i[1]) * _TOTAL_STRIDE
    raise InvalidCheckpointError(f"{source}: has no average pooling, so its size is not known")


def _epsilon(source: Path, graph: Any, reader: _Reader) -> float:
    """BatchNorm's epsilon: an attribute of the fused operation, or a constant that is added."""
    for node in graph.node:
        if node.op.startswith("FusedBatchNorm"):
            return round(float(node.attr["epsilon"].f), 9)
        if node.op == "Const" and node.name.endswith("BatchNorm/batchnorm/add/y"):
            return round(float(reader.read(node.name)), 9)
    raise InvalidCheckpointError(f"{source}: has no BatchNorm")
