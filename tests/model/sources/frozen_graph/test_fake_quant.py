"""A graph that TensorFlow made (see `fake_quant/make.py`), as it is and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint
from model.engines import load_engine
from model.network.config import CLASSIFIER
from model.network.quantization import QuantizationParameters
from model.sources.frozen_graph.fake_quant import nudge
from model.sources.load import convert_model
from tests.model.quantized_twins import quantization_tensors
from tests.model.sources.frozen_graph.graphs import find_node
from tests.model.sources.refusal import refused_import
from tests.model.twins import ENGINES

FOLDER = Path(__file__).parent / "fake_quant"
STEM = "MobilenetV1/MobilenetV1/Conv2d_0"
RANGE = "MobilenetV1/Conv2d_0/act_quant"


@pytest.fixture
def graph() -> Any:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    return GraphDef.FromString((FOLDER / "graph.pb").read_bytes())


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return convert(FOLDER / "graph.pb", tmp_path_factory.mktemp("graph"))


@pytest.fixture
def answers() -> Any:
    return np.load(FOLDER / "answers.npz")


def convert(source: Path, folder: Path, **options: bool) -> Checkpoint:
    convert_model(str(source), folder / "imported", **options)
    return load_checkpoint(folder / "imported")


def write_float(graph: Any, name: str, value: float) -> None:
    tensor = find_node(graph, name).attr["value"].tensor
    tensor.ClearField("tensor_content")
    tensor.ClearField("float_val")
    tensor.float_val.append(value)


def refusal(graph: Any, folder: Path) -> str:
    return refused_import(folder / "graph.pb", graph.SerializeToString())


def test_the_graph_tells_everything(imported: Checkpoint) -> None:
    config = imported.config
    assert (config.image_size, config.num_labels, config.hidden_act) == (64, 11, "relu6")
    assert config.layers[-1].out_channels == 51
    assert imported.quantization
    assert imported.quantization.input == QuantizationParameters(1 / 128, 128)
    assert imported.quantization.half_up


def test_levels_are_those_of_tensorflow_s_converter(imported: Checkpoint, tmp_path: Path) -> None:
    theirs = convert(FOLDER / "graph.tflite", tmp_path).quantization
    assert imported.quantization
    assert theirs
    actual, expected = quantization_tensors(imported.quantization), quantization_tensors(theirs)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.endswith("bias"):  # the converter folds BatchNorm in another order
            np.testing.assert_allclose(actual[name], tensor, rtol=0, atol=1, err_msg=name)
        else:
            assert np.array_equal(actual[name], tensor), name


@pytest.mark.parametrize("name", ENGINES)
def test_logits_are_those_of_tensorflow(imported: Checkpoint, answers: Any, name: str) -> None:
    assert imported.quantization
    step = imported.quantization.layers[CLASSIFIER].output.scale
    logits = load_engine(imported, name=name, device="cpu").run(answers["pixels"]).logits
    # TensorFlow computes in floating point between its levels, and averages without any.
    distances = np.abs(logits - answers["logits"]) / step
    assert answers["logits"].std() > 10 * step
    assert distances.max() < 3
    assert distances.mean() < 1


def test_dequantized_it_has_float_weights_alone(tmp_path: Path, imported: Checkpoint) -> None:
    floats = convert(FOLDER / "graph.pb", tmp_path, dequantize=True)
    assert floats.quantization is None
    assert floats.weights.keys() == imported.weights.keys()
    for name, weight in imported.weights.items():
        assert np.array_equal(floats.weights[name], weight)


def test_a_graph_without_logits_is_a_feature_extractor(
    graph: Any, tmp_path: Path, imported: Checkpoint, answers: Any
) -> None:
    kept = [node for node in graph.node if "Logits/Conv2d" not in node.name]
    kept = [node for node in kept if "Squeeze" not in node.name and "Predict" not in node.name]
    features = type(graph)(node=kept)
    (tmp_path / "features.pb").write_bytes(features.SerializeToString())
    extractor = convert(tmp_path / "features.pb", tmp_path)
    assert extractor.config.id2label == {}
    pooled, expected = (
        load_engine(checkpoint, name="onnx").run(answers["pixels"]).pooled
        for checkpoint in (extractor, imported)
    )
    assert np.array_equal(pooled, expected)


@pytest.mark.parametrize(
    ("low", "high", "narrow", "expected"),
    [
        (0, 255, False, (1, 0)),
        (-1, 1, False, (2 / 255, 128)),
        (-0.1, 6.2, False, (6.3 / 255, 4)),
        (-127, 127, True, (1, 128)),
        (1, 3, False, (2 / 255, 0)),
        (-3, -1, False, (2 / 255, 255)),
        (1, 3, True, (2 / 254, 1)),
    ],
)
def test_a_range_is_nudged_so_that_0_is_a_level(
    low: float, high: float, *, narrow: bool, expected: tuple[float, int]
) -> None:
    parameters = nudge(low, high, narrow=narrow)
    assert parameters.scale == pytest.approx(expected[0], rel=1e-6)
    assert parameters.zero_point == expected[1]


@pytest.mark.parametrize("high", [0, -1, np.inf, np.nan, 1e-45], ids=str)
def test_what_is_no_range_is_refused(graph: Any, tmp_path: Path, high: float) -> None:
    write_float(graph, f"{RANGE}/max", high)
    assert "is not a range of levels" in refusal(graph, tmp_path)


def test_a_layer_without_a_range_is_refused(graph: Any, tmp_path: Path) -> None:
    relu = f"{STEM}/Relu6"
    find_node(graph, f"MobilenetV1/{RANGE}/FakeQuantWithMinMaxVars").op = "Identity"
    assert f"['DepthwiseConv2dNative'] follows '{relu}'" in refusal(graph, tmp_path).replace(
        f"MobilenetV1/{RANGE}/FakeQuantWithMinMaxVars", relu
    )


def test_a_kernel_without_a_range_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/Conv2D_Fold").input[1] = f"{STEM}/mul_fold"
    assert "has no range" in refusal(graph, tmp_path)


def test_another_number_of_bits_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"MobilenetV1/{RANGE}/FakeQuantWithMinMaxVars").attr["num_bits"].i = 4
    assert "has 4 bits instead of 8" in refusal(graph, tmp_path)


def test_another_stride_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/Conv2D_Fold").attr["strides"].list.i[1] = 1
    assert "has another stride" in refusal(graph, tmp_path)


def test_another_padding_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/Conv2D_Fold").attr["padding"].s = b"VALID"
    assert "pads in another way" in refusal(graph, tmp_path)


def test_activations_that_differ_are_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/Relu6").op = "Relu"
    assert "its activations are ['relu', 'relu6']" in refusal(graph, tmp_path)


def test_a_kernel_that_is_not_constant_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/mul_fold").op = "Sin"
    assert "is not a constant" in refusal(graph, tmp_path)


def test_a_circle_of_identities_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/Conv2D_Fold").input[1] = "circle"
    graph.node.add(name="circle", op="Identity", input=["circle"])
    assert "has no range" in refusal(graph, tmp_path)


def test_a_circle_of_constants_is_refused(graph: Any, tmp_path: Path) -> None:
    find_node(graph, f"{STEM}/mul_fold").input[0] = f"{STEM}/mul_fold"
    assert "is not a constant" in refusal(graph, tmp_path)


@pytest.mark.parametrize("name", ["weights", "BatchNorm/beta"])
def test_values_that_are_not_finite_are_refused(graph: Any, tmp_path: Path, name: str) -> None:
    write_float(graph, f"MobilenetV1/Conv2d_0/{name}", np.nan)
    assert "is not finite" in refusal(graph, tmp_path)
