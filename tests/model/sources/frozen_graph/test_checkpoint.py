from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint
from model.errors import ModelError
from model.sources.load import convert_model
from tests.model.sources.frozen_graph.graphs import (
    LOGITS,
    add_constant,
    create_graph_def,
    find_node,
    import_graph,
)
from tests.model.sources.refusal import refused_import
from tests.model.sources.released import released


def assert_same_weights(actual: Checkpoint, expected: Checkpoint) -> None:
    assert actual.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert np.array_equal(actual.weights[name], value)


@pytest.mark.thorough
def test_the_released_graph_becomes_the_default_checkpoint(
    tmp_path: Path, default_checkpoint: Checkpoint
) -> None:
    convert_model(str(released("mobilenet_v1_1.0_224_frozen.pb")), tmp_path)
    imported = load_checkpoint(tmp_path)
    assert_same_weights(imported, default_checkpoint)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (DEFAULT_DIRECTORY / path.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_graph_becomes_its_checkpoint(source: Path, tmp_path: Path, narrow: Checkpoint) -> None:
    imported = import_graph(source, create_graph_def(narrow))
    assert imported.config == narrow.config
    assert imported.preprocessing.input_size == (128, 128)
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
    assert import_graph(source, graph).config.layer_norm_eps == 0.01


def test_a_constant_that_is_stored_once_fills_its_shape(
    source: Path, tmp_path: Path, narrow: Checkpoint
) -> None:
    graph = create_graph_def(narrow)
    tensor = find_node(graph, f"{LOGITS}/biases").attr["value"].tensor
    tensor.tensor_content = b""
    tensor.float_val.append(0.5)
    imported = import_graph(source, graph)
    bias = imported.weights["classifier.bias"]
    assert np.array_equal(bias, np.full(1001, 0.5, np.float32))


def test_the_size_that_nothing_tells_is_asked_for(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, "pool"))
    said = refused_import(source, graph.SerializeToString())
    assert said == "does not declare its input size; give --image-size"
    convert_model(str(source), source.parent / "imported", image_size=160)
    imported = load_checkpoint(source.parent / "imported")
    assert imported.config.image_size == 160
    assert imported.preprocessing.input_size == (160, 160)


def test_a_size_that_is_given_wins_over_the_name(tmp_path: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    graph.node.remove(find_node(graph, "pool"))
    source = tmp_path / "mobilenet_v1_0.25_224_tuned.pb"
    assert import_graph(source, graph, image_size=160).config.image_size == 160


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_192.pb", "mobilenet_v1_0.25_192_frozen.pb"])
def test_the_size_is_told_by_the_name_if_nothing_else_tells(
    tmp_path: Path, narrow: Checkpoint, name: str
) -> None:
    graph = create_graph_def(narrow)
    (tmp_path / name).write_bytes(graph.SerializeToString())
    convert_model(str(tmp_path / name), tmp_path / "pooling")
    assert load_checkpoint(tmp_path / "pooling").config.image_size == 128
    graph.node.remove(find_node(graph, "pool"))
    (tmp_path / name).write_bytes(graph.SerializeToString())
    convert_model(str(tmp_path / name), tmp_path / "name")
    assert load_checkpoint(tmp_path / "name").config.image_size == 192


@pytest.mark.parametrize(
    ("sides", "told"),
    [([1, 160, 160, 3], 160), ([-1, 192, 192, 3], 192), ([1, -1, -1, 3], 128), ([], 128)],
    ids=str,
)
def test_the_size_is_told_by_the_placeholder_before_the_pooling(
    source: Path, narrow: Checkpoint, sides: list[int], told: int
) -> None:
    graph = create_graph_def(narrow)
    shape = graph.node.add(name="input", op="Placeholder").attr["shape"].shape
    for side in sides:
        shape.dim.add(size=side)
    assert import_graph(source, graph).config.image_size == told


def test_a_graph_without_a_classifier_is_a_feature_extractor(
    source: Path, tmp_path: Path, narrow: Checkpoint
) -> None:
    graph = create_graph_def(narrow)
    for part in ("weights", "biases"):
        graph.node.remove(find_node(graph, f"{LOGITS}/{part}"))
    imported = import_graph(source, graph)
    assert (imported.config.id2label, imported.labels) == ({}, ())
    assert imported.weights.keys() < narrow.weights.keys()


@pytest.mark.parametrize(("operator", "hidden_act"), [("Relu", "relu"), ("Relu6", "relu6")])
def test_the_activation_is_the_graph_s(
    source: Path, narrow: Checkpoint, operator: str, hidden_act: str
) -> None:
    graph = create_graph_def(narrow)
    graph.node.add(name=operator, op=operator)
    assert import_graph(source, graph).config.hidden_act == hidden_act


def test_an_epsilon_that_was_stripped_is_tensorflow_s_default(
    source: Path, narrow: Checkpoint
) -> None:
    graph = create_graph_def(narrow, norm="FusedBatchNormV3")
    del find_node(graph, "norm").attr["epsilon"]
    assert import_graph(source, graph).config.layer_norm_eps == 1e-4


def test_other_classes_have_numbers_for_names(source: Path, narrow: Checkpoint) -> None:
    graph = create_graph_def(narrow)
    for part, shape in (("weights", (1, 1, 256, 3)), ("biases", (3,))):
        graph.node.remove(find_node(graph, f"{LOGITS}/{part}"))
        add_constant(graph, f"{LOGITS}/{part}", np.zeros(shape, np.float32))
    imported = import_graph(source, graph)
    labels = [label.label for label in imported.labels]
    assert labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_the_missing_extra_is_named(
    source: Path, narrow: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(create_graph_def(narrow).SerializeToString())
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.graph_pb2", None)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[convert\]'"):
        convert_model(str(source), source.parent / "imported")
