from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from model.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint
from model.config import MobileNetV1Config
from model.errors import InvalidCheckpointError, ModelError
from model.importers import import_checkpoint
from model.labels import load_imagenet_labels
from tests.model.twins import create_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

RELEASED = "RELEASED_CHECKPOINTS"
LOGITS = "MobilenetV1/Logits/Conv2d_1c_1x1"
FLOAT = 1  # tensorflow.DT_FLOAT
BATCH_NORM = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)


@pytest.fixture
def released() -> Path:
    if RELEASED not in os.environ:
        pytest.skip(f"{RELEASED} names no directory with the released checkpoints")
    return Path(os.environ[RELEASED]) / "mobilenet_v1_1.0_224_frozen.pb"


@pytest.fixture(scope="module")
def narrow() -> Checkpoint:
    """Random weights at a quarter of the depth, with ImageNet's classes."""
    labels = {label.class_id: label.label for label in load_imagenet_labels()}
    config = MobileNetV1Config(depth_multiplier=0.25, image_size=128, id2label=labels)
    return create_checkpoint(config)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "frozen.pb"


def add_constant(graph: Any, name: str, value: NDArray[np.float32]) -> Any:
    node = graph.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = FLOAT
    for side in value.shape:
        tensor.tensor_shape.dim.add(size=side)
    tensor.tensor_content = value.astype("<f4").tobytes()
    return tensor


def create_graph_def(checkpoint: Checkpoint) -> Any:
    """Write a checkpoint as TF-Slim's frozen graph, as far as an importer looks."""
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
    classifier = weights["classifier.weight"].T[None, None]
    add_constant(graph, f"{LOGITS}/weights", classifier)
    add_constant(graph, f"{LOGITS}/biases", weights["classifier.bias"])
    graph.node.add(name="norm", op="FusedBatchNorm").attr["epsilon"].f = 0.001
    pool = graph.node.add(name="pool", op="AvgPool")
    pool.attr["ksize"].list.i.extend([1, 4, 4, 1])
    return graph


def find_node(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name)


def refusal(source: Path, graph: Any) -> str:
    """Write a graph, see it refused, and return what the refusal says of it."""
    source.write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    directory = source.parent / "imported"
    with pytest.raises(InvalidCheckpointError) as caught:
        import_checkpoint(source, directory)
    assert not directory.exists()
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{source}: ")
    return text.removeprefix(f"{source}: ")


def assert_same_weights(actual: Checkpoint, expected: Checkpoint) -> None:
    assert actual.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert np.array_equal(actual.weights[name], value)


def test_the_released_graph_becomes_the_default_checkpoint(
    released: Path, tmp_path: Path, default_checkpoint: Checkpoint
) -> None:
    import_checkpoint(released, tmp_path)
    imported = load_checkpoint(tmp_path)
    assert_same_weights(imported, default_checkpoint)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (DEFAULT_DIRECTORY / path.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_the_released_graph_cut_is_refused(released: Path, source: Path, share: float) -> None:
    data = released.read_bytes()
    assert refusal(source, data[: int(len(data) * share)])


def test_a_graph_becomes_its_checkpoint(source: Path, tmp_path: Path, narrow: Checkpoint) -> None:
    source.write_bytes(create_graph_def(narrow).SerializeToString())
    import_checkpoint(source, tmp_path / "imported")
    imported = load_checkpoint(tmp_path / "imported")
    assert imported.config == narrow.config
    assert imported.preprocessing.crop_side == 128
    assert imported.preprocessing.size.shortest_edge == 160
    assert_same_weights(imported, narrow)


def test_an_epsilon_that_is_added_is_read_too(
    source: Path, tmp_path: Path, narrow: Checkpoint
) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, "norm"))
    add_constant(
        graph, "MobilenetV1/Conv2d_0/BatchNorm/batchnorm/add/y", np.array(0.01, np.float32)
    )
    source.write_bytes(graph.SerializeToString())
    import_checkpoint(source, tmp_path / "imported")
    assert load_checkpoint(tmp_path / "imported").config.layer_norm_eps == 0.01


def test_a_constant_that_is_stored_once_fills_its_shape(
    source: Path, tmp_path: Path, narrow: Checkpoint
) -> None:
    graph = create_graph_def(narrow)
    tensor = find_node(graph, f"{LOGITS}/biases").attr["value"].tensor
    tensor.tensor_content = b""
    tensor.float_val.append(0.5)
    source.write_bytes(graph.SerializeToString())
    import_checkpoint(source, tmp_path / "imported")
    bias = load_checkpoint(tmp_path / "imported").weights["classifier.bias"]
    assert np.array_equal(bias, np.full(1001, 0.5, np.float32))


def test_a_missing_file_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match=r"frozen\.pb: is not a file"):
        import_checkpoint(source, tmp_path / "imported")


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", np.random.default_rng(0).bytes(4096), b"\x80\x04K\x01."],
    ids=["empty", "text", "random", "pickle"],
)
def test_bytes_that_are_no_graph_are_refused(source: Path, data: bytes) -> None:
    assert refusal(source, data)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_graph_is_refused(source: Path, narrow: Checkpoint, share: float) -> None:
    data = create_graph_def(narrow).SerializeToString()
    assert refusal(source, data[: int(len(data) * share)])


def test_a_graph_of_something_else_is_refused(source: Path) -> None:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef()
    add_constant(graph, "resnet_v1_50/logits/biases", np.zeros(1001, np.float32))
    assert "is not a MobileNet V1" in refusal(source, graph)


@pytest.mark.parametrize("operator", ["FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs"])
def test_a_quantized_graph_is_refused(source: Path, narrow: Checkpoint, operator: str) -> None:
    graph = create_graph_def(narrow)
    graph.node.add(name="act_quant", op=operator)
    assert "quantized" in refusal(source, graph)


@pytest.mark.parametrize("name", ["norm", "pool"])
def test_a_graph_without_a_needed_operation_is_refused(
    source: Path, narrow: Checkpoint, name: str
) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, name))
    assert refusal(source, graph).startswith("has no ")


def test_a_graph_without_a_layer_is_refused_by_its_name(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    name = "MobilenetV1/Conv2d_7_depthwise/BatchNorm/gamma"
    graph.node.remove(find_node(graph, name))
    assert name in refusal(source, graph)


def test_another_number_of_classes_is_refused(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, f"{LOGITS}/biases"))
    add_constant(graph, f"{LOGITS}/biases", np.zeros(1000, np.float32))
    assert refusal(source, graph) == "has 1000 classes instead of 1001"


@pytest.mark.parametrize("cut", [1, 4], ids=["part-of-a-value", "one-value"])
def test_a_constant_that_is_too_short_is_refused(
    source: Path, narrow: Checkpoint, cut: int
) -> None:
    graph = create_graph_def(narrow)
    tensor = find_node(graph, "MobilenetV1/Conv2d_0/weights").attr["value"].tensor
    tensor.tensor_content = tensor.tensor_content[:-cut]
    assert "is damaged" in refusal(source, graph)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{LOGITS}/weights", (256, 1001)),
        (f"{LOGITS}/biases", ()),
        ("MobilenetV1/Conv2d_0/weights", (27, 8)),
        ("MobilenetV1/Conv2d_3_depthwise/depthwise_weights", (3, 3, 32)),
        ("MobilenetV1/Conv2d_13_pointwise/weights", ()),
        ("MobilenetV1/Conv2d_13_pointwise/weights", (1, 1, 256, 10_000)),
    ],
    ids=str,
)
def test_a_constant_of_another_shape_is_refused(
    source: Path, narrow: Checkpoint, name: str, shape: tuple[int, ...]
) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, name))
    add_constant(graph, name, np.zeros(shape, np.float32))
    assert refusal(source, graph)


@pytest.mark.parametrize("ksize", [[], [1, 0, 0, 1], [1, 1000, 1000, 1]], ids=str)
def test_a_pooling_over_no_possible_map_is_refused(
    source: Path, narrow: Checkpoint, ksize: list[int]
) -> None:
    graph = create_graph_def(narrow)
    del find_node(graph, "pool").attr["ksize"].list.i[:]
    find_node(graph, "pool").attr["ksize"].list.i.extend(ksize)
    assert refusal(source, graph)


def test_the_missing_extra_is_named(
    source: Path, narrow: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(create_graph_def(narrow).SerializeToString())
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.graph_pb2", None)
    with pytest.raises(ModelError, match=r"pip install 'mobilenet-serve\[convert\]'"):
        import_checkpoint(source, source.parent / "imported")
