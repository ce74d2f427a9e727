"""TensorFlow graphs and archives as Google released them, made of random weights."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint
from model.checkpoints.labels import load_imagenet_labels
from model.network.config import MobileNetV1Config
from model.sources.load import convert_model
from tests.model.twins import create_checkpoint

LOGITS = "MobilenetV1/Logits/Conv2d_1c_1x1"
FLOAT = 1  # tensorflow.DT_FLOAT
BATCH_NORM = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)


def create_released(depth_multiplier: float = 0.25, size: int = 128) -> Checkpoint:
    """Random weights for the classes of Google's checkpoints."""
    labels = {label.class_id: label.label for label in load_imagenet_labels()}
    return create_checkpoint(
        MobileNetV1Config(depth_multiplier=depth_multiplier, image_size=size, id2label=labels)
    )


def add_constant(graph: Any, name: str, value: NDArray[np.float32]) -> Any:
    node = graph.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = FLOAT
    for side in value.shape:
        tensor.tensor_shape.dim.add(size=side)
    tensor.tensor_content = value.astype("<f4").tobytes()
    return tensor


def create_graph_def(checkpoint: Checkpoint, norm: str = "FusedBatchNorm") -> Any:
    """Write a checkpoint as TF-Slim's frozen graph, as far as an importer looks.

    Args:
        checkpoint: what to write.
        norm: the fused operation, or `separate` for one operation a step.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef()
    weights = checkpoint.weights
    for layer in checkpoint.config.layers:
        scope = f"MobilenetV1/{layer.end_point}"
        kernel = weights[f"{layer.key}.convolution.weight"]
        if layer.end_point.endswith("depthwise"):
            add_constant(graph, f"{scope}/depthwise_weights", kernel.transpose(2, 3, 0, 1))
        else:
            add_constant(graph, f"{scope}/weights", kernel.transpose(2, 3, 1, 0))
        for ours, theirs in BATCH_NORM:
            value = weights[f"{layer.key}.normalization.{ours}"]
            add_constant(graph, f"{scope}/BatchNorm/{theirs}", value)
        if norm == "separate":
            name = f"MobilenetV1/{scope}/BatchNorm/batchnorm/add/y"
            add_constant(graph, name, np.array(checkpoint.config.layer_norm_eps, np.float32))
    classifier = weights["classifier.weight"].T[None, None]
    add_constant(graph, f"{LOGITS}/weights", classifier)
    add_constant(graph, f"{LOGITS}/biases", weights["classifier.bias"])
    if norm != "separate":
        node = graph.node.add(name="norm", op=norm)
        node.attr["epsilon"].f = checkpoint.config.layer_norm_eps
    pool = graph.node.add(name="pool", op="AvgPool")
    assert isinstance(checkpoint.config.image_size, int)
    kernel_side = checkpoint.config.image_size // 32
    pool.attr["ksize"].list.i.extend([1, kernel_side, kernel_side, 1])
    return graph


def find_node(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name)


def import_graph(source: Path, graph: Any, **options: Any) -> Checkpoint:
    """Write a graph, convert it, and load what was made of it."""
    source.write_bytes(graph.SerializeToString())
    convert_model(str(source), source.parent / "imported", **options)
    return load_checkpoint(source.parent / "imported")


def create_archive(members: dict[str, bytes]) -> bytes:
    """A `.tgz` of regular files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def release(name: str, frozen_graph: bytes) -> dict[str, bytes]:
    """The members of a released archive; of what no importer reads, only the names are right."""
    return {
        f"./{name}.ckpt.data-00000-of-00001": bytes(5000),
        f"./{name}.ckpt.index": b"index",
        f"./{name}.ckpt.meta": b"meta",
        f"./{name}_eval.pbtxt": b"node {}",
        f"./{name}_frozen.pb": frozen_graph,
        f"./{name}.tflite": b"\x1c\0\0\0TFL3",
        f"./{name}_info.txt": b"Model: mobilenet_v1",
    }
