from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.engines import load_engine
from model.engines.onnx.engine import OnnxEngine
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.instructions import has_dot_product
from model.engines.onnx.model import create_model
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import END_POINTS, LOGITS, OUTPUT_STRIDES, POOLED
from model.quantization.agreement import compare
from model.quantization.quantize import quantize
from tests.model.quantized_twins import (
    count_optimized_nodes,
    create_pixels,
    quantization_tensors,
)
from tests.model.twins import create_weights, tiny_config

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

needs_dot_product = pytest.mark.skipif(
    not has_dot_product(), reason="needs a CPU with VNNI or Arm's dot product"
)


def create_floats(**settings: object) -> Checkpoint:
    config = tiny_config(depth_multiplier=0.05, num_labels=11, **settings)
    return Checkpoint("floats", config, Preprocessing(), create_weights(config), "")


@pytest.fixture(scope="module")
def floats() -> Checkpoint:
    return create_floats()


@pytest.fixture(scope="module")
def quantized(floats: Checkpoint) -> Checkpoint:
    return quantize(floats, create_pixels(64, 64, count=40), threads=1)


def logits(checkpoint: Checkpoint) -> NDArray[np.float32]:
    return OnnxEngine(checkpoint, 1).run(create_pixels(96, 96, count=8)).logits


def test_the_answers_stay_near_those_of_the_float_network(
    floats: Checkpoint, quantized: Checkpoint
) -> None:
    expected, actual = logits(floats), logits(quantized)
    assert np.abs(actual - expected).mean() < 0.05 * expected.std()


@pytest.mark.parametrize(
    "settings", [{"hidden_act": "relu"}, {"hidden_act": "linear"}, {"tf_padding": False}]
)
def test_other_activations_and_paddings_are_calibrated_too(settings: dict[str, object]) -> None:
    floats = create_floats(**settings)
    quantized = quantize(floats, create_pixels(96, 96, count=40), threads=1)
    expected, actual = logits(floats), logits(quantized)
    assert np.abs(actual - expected).mean() < 0.1 * expected.std()


def test_an_activation_without_levels_is_refused() -> None:
    with pytest.raises(InvalidCheckpointError, match="'tanh' cannot be quantized"):
        quantize(create_floats(hidden_act="tanh"), create_pixels(64, 64), threads=1)


def test_all_but_the_first_two_layers_run_as_integers(
    quantized: Checkpoint, tmp_path: Path
) -> None:
    nodes = count_optimized_nodes(quantized, tmp_path / "optimized.onnx")
    assert nodes["QLinearConv"] == 25
    assert nodes["MatMulInteger"] == 1
    assert nodes["Conv"] + nodes["FusedConv"] == 2
    assert not {"Gemm", "MatMul"} & nodes.keys()


def test_the_same_images_give_the_same_levels(floats: Checkpoint, quantized: Checkpoint) -> None:
    again = quantize(floats, create_pixels(64, 64, count=40), threads=1)
    assert again.quantization
    assert quantized.quantization
    ours = quantization_tensors(again.quantization)
    theirs = quantization_tensors(quantized.quantization)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_directory_holds_the_levels_alone(quantized: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path, quantized.config, quantized.preprocessing, None, quantized.quantization
    )
    assert not (tmp_path / "model.safetensors").exists()
    loaded = load_checkpoint(tmp_path)
    assert np.array_equal(logits(loaded), logits(quantized))
    assert loaded.weights.keys() == quantized.weights.keys()


def test_the_dequantized_network_gives_nearly_the_same_answers(quantized: Checkpoint) -> None:
    real = logits(replace(quantized, quantization=None))
    assert np.abs(logits(quantized) - real).mean() < 0.05 * real.std()


def test_maps_are_read_from_real_and_from_quantized_layers(
    floats: Checkpoint, quantized: Checkpoint
) -> None:
    pixels = create_pixels(97, 131)
    names = [*END_POINTS, POOLED, LOGITS]
    expected, actual = (OnnxEngine(one, 1).run(pixels, names).arrays for one in (floats, quantized))
    for name in names:
        assert np.abs(actual[name] - expected[name]).mean() < 0.1 * expected[name].std()
    np.testing.assert_allclose(actual["Conv2d_0"], expected["Conv2d_0"], atol=1e-5)


@pytest.mark.parametrize("signed", [False, pytest.param(True, marks=needs_dot_product)])
def test_logits_are_the_exact_sums_of_levels(quantized: Checkpoint, *, signed: bool) -> None:
    quantization = quantized.quantization
    assert quantization
    layer, pooled = quantization.layers["classifier"], quantization.pooled
    model = create_model(quantized, [LOGITS, POOLED], signed_kernels=signed)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    logits, real = session.run(None, {PIXELS: create_pixels(96, 96, count=8)})
    distances = np.round(real / np.float32(pooled.scale)).astype(np.int64)
    kernel = layer.kernel[:, :, 0, 0].astype(np.int64) - layer.zero_point
    sums = (distances @ kernel.T + layer.bias).astype(np.float32)
    assert np.array_equal(logits, sums * layer.bias_scales)


@pytest.mark.thorough
@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_both_engines_run_real_layers_before_quantized_ones(
    quantized: Checkpoint, output_stride: int
) -> None:
    names = [*END_POINTS, POOLED, LOGITS]
    ours, reference = (
        load_engine(quantized, name=name, device="cpu", threads=1)
        .run(create_pixels(97, 131), names, output_stride=output_stride)
        .arrays
        for name in ("onnx", "torch")
    )
    for name in names:
        # Where real sums fall between two levels, the engines' order of adding decides.
        assert np.abs(ours[name] - reference[name]).mean() < 0.01 * reference[name].std()


def test_agreement_counts_equal_classes_and_measures_scores(floats: Checkpoint) -> None:
    pixels = create_pixels(64, 64, count=5)
    same = compare(floats, floats, pixels, threads=1)
    assert (same.images, same.same, same.share, same.max_difference) == (5, 5, 1.0, 0.0)
    assert same.same_clear == same.clear
    weights = dict(floats.weights)
    weights["classifier.bias"] = weights["classifier.bias"].copy()
    least = logits(floats).mean(axis=0).argmin()
    weights["classifier.bias"][least] += 100
    other = compare(floats, replace(floats, weights=weights), pixels, threads=1)
    assert (other.same, other.share) == (0, 0.0)
    assert other.max_difference >= other.mean_difference > 0
