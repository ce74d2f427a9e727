from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoints.checkpoint import Checkpoint
from model.errors import InvalidCheckpointError
from model.sources.load import convert_model
from tests.model.sources.frozen_graph.graphs import (
    LOGITS,
    add_constant,
    create_graph_def,
    find_node,
)
from tests.model.sources.refusal import refused_import


def refusal(source: Path, graph: Any) -> str:
    """Write a graph, see it refused, and return what the refusal says of it."""
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return refused_import(source, content)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", np.random.default_rng(0).bytes(4096), b"\x80\x04K\x01."],
    ids=["empty", "text", "random", "pickle"],
)
def test_bytes_that_are_no_graph_are_refused(source: Path, data: bytes) -> None:
    assert refusal(source, data)


def test_a_photo_is_refused_as_what_it_is(source: Path) -> None:
    photo = Path(__file__).parents[3] / "images" / "cat.jpg"
    assert refusal(source, photo.read_bytes()) == "is a JPEG image"


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


def test_a_graph_without_batch_norm_is_refused(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, "norm"))
    assert refusal(source, graph) == "has no BatchNorm"


def test_a_size_that_the_graph_contradicts_is_refused(source: Path, narrow: Checkpoint) -> None:
    source.write_bytes(create_graph_def(narrow).SerializeToString())
    with pytest.raises(InvalidCheckpointError, match=r"size 128, but --image-size is 160$"):
        convert_model(str(source), source.parent / "imported", image_size=160)
    assert not (source.parent / "imported").exists()
    convert_model(str(source), source.parent / "imported", image_size=128)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("MobilenetV2/expanded_conv_3/expand/weights", "is a MobileNet V2, not a MobileNet V1"),
        ("MobilenetV3/Conv/weights", "is a MobileNet V3, not a MobileNet V1"),
        ("BoxPredictor_0/BoxEncodingPredictor/weights", "is a detector, not a MobileNet V1"),
        ("FeatureExtractor/MobilenetV1/Conv2d_0/weights", "is a detector, not a MobileNet V1"),
    ],
)
def test_another_network_is_refused_by_what_it_is(
    source: Path, narrow: Checkpoint, name: str, what: str
) -> None:
    graph = create_graph_def(narrow)
    add_constant(graph, name, np.zeros(3, np.float32))
    assert refusal(source, graph) == what


@pytest.mark.parametrize(
    "start",
    [b"PK\x03\x04", b"\x89HDF\r\n", b"\x80\x04\x95", b"<!DOCTYPE", b"version https://git-lfs"],
    ids=repr,
)
def test_what_is_often_taken_for_a_graph_is_refused_by_what_it_is(
    source: Path, start: bytes
) -> None:
    assert refusal(source, start + bytes(100)).startswith("is a")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "a" * 10_000], ids=["line", "colour", "long"])
def test_a_refusal_is_one_short_printable_line_whatever_the_file_holds(
    source: Path, narrow: Checkpoint, name: str
) -> None:
    graph = create_graph_def(narrow)
    graph.node.add(name="quant", op="FakeQuantWithMinMaxVars", input=[name])
    graph.node.add(name="input", op="Placeholder")
    graph.node.add(name=name, op=name, input=["input"])
    text = refusal(source, graph)
    assert text.isprintable()
    assert len(text) <= 2000


def test_a_constant_of_other_numbers_is_refused(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    find_node(graph, "MobilenetV1/Conv2d_0/weights").attr["value"].tensor.dtype = 19
    assert "is not of floats" in refusal(source, graph)


def test_a_constant_that_would_fill_the_memory_is_refused(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    tensor = find_node(graph, "MobilenetV1/Conv2d_0/weights").attr["value"].tensor
    for dim in tensor.tensor_shape.dim:
        dim.size = 1 << 40
    tensor.tensor_content = bytes(4)
    assert "is too large" in refusal(source, graph)


def test_a_graph_without_a_layer_is_refused_by_its_name(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    name = "MobilenetV1/Conv2d_7_depthwise/BatchNorm/gamma"
    graph.node.remove(find_node(graph, name))
    assert name in refusal(source, graph)


def test_classes_that_disagree_are_refused(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, f"{LOGITS}/biases"))
    add_constant(graph, f"{LOGITS}/biases", np.zeros(1000, np.float32))
    assert "has shape (1001, 256), the configuration wants (1000, 256)" in refusal(source, graph)


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
