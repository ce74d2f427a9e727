from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from model.checkpoints.checkpoint import Checkpoint, load_checkpoint
from model.engines.onnx.engine import OnnxEngine
from model.network.folding import unfold
from model.network.quantization import QuantizationParameters
from model.network.scores import softmax
from model.sources.load import convert_model
from tests.model.quantized_twins import (
    RELU6,
    WIDE,
    assert_same_levels,
    create_pixels,
    create_quantized,
)
from tests.model.sources.tflite.litert import run_litert
from tests.model.sources.tflite.tflite_files import write_tflite
from tests.model.twins import create_checkpoint, tiny_config

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
CONFIG = tiny_config(depth_multiplier=8 / 1024, image_size=SIDE)
FEATURES = tiny_config(depth_multiplier=8 / 1024, image_size=SIDE, num_labels=0)
STYLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "quantize at the ends": ({"per_channel": True}, {"quantizes": True}),
    "pad operators": ({}, {"pads": True}),
    "fully connected": ({}, {"classifier": "FULLY_CONNECTED"}),
    "without softmax": ({}, {"softmax": False}),
}
"""Variants of a quantized network, and ways in which converters write it."""


def create_folded(config: Any = CONFIG) -> Checkpoint:
    """Random float weights whose BatchNorm is folded in."""
    checkpoint = create_checkpoint(config)
    weights = dict(checkpoint.weights)
    for layer in config.layers:
        kernel = weights[f"{layer.key}.convolution.weight"]
        bias = weights[f"{layer.key}.normalization.bias"] + np.float32(0.3)
        weights |= unfold({layer.key: (kernel, bias)}, config.layer_norm_eps)
    return Checkpoint("folded", config, checkpoint.preprocessing, weights, digest="")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


def convert(source: Path, content: bytes, **options: bool) -> Checkpoint:
    source.write_bytes(content)
    convert_model(str(source), source.parent / "imported", **options)
    return load_checkpoint(source.parent / "imported")


def test_a_float_file_becomes_its_network(source: Path) -> None:
    folded = create_folded()
    imported = convert(source, write_tflite(folded, SIDE))
    assert imported.quantization is None
    assert imported.config.model_dump() == CONFIG.model_dump()
    assert imported.preprocessing.input_size == (SIDE, SIDE)
    assert imported.preprocessing.scale_and_offset()[0].tolist() == [127.5] * 3
    assert imported.weights.keys() == folded.weights.keys()
    for name, weight in folded.weights.items():
        assert np.array_equal(imported.weights[name], weight)


@pytest.mark.thorough
@pytest.mark.parametrize("float16", [False, True])
def test_a_float_file_gets_litert_s_scores(source: Path, *, float16: bool) -> None:
    content = write_tflite(create_folded(), SIDE, float16=float16)
    pixels = create_pixels(SIDE, SIDE)
    scores = softmax(OnnxEngine(convert(source, content), 1).run(pixels).logits)
    expected = run_litert(content, pixels).reshape(2, -1)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_transformers_loads_a_float_file_s_network(source: Path) -> None:
    from tests.optional import torch, transformers

    loader: Any = transformers.AutoModelForImageClassification
    imported = convert(source, write_tflite(create_folded(), SIDE))
    pixels = create_pixels(SIDE, SIDE)
    images = torch.from_numpy(pixels / np.float32(127.5) - np.float32(1)).permute(0, 3, 1, 2)
    network = loader.from_pretrained(source.parent / "imported").eval()
    with torch.inference_mode():
        expected = network(images).logits.numpy()
    actual = OnnxEngine(imported, 1).run(pixels).logits
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "variant", [{}, {"hidden": WIDE}, {"per_channel": True}], ids=["relu6", "wide", "int8"]
)
def test_a_quantized_file_becomes_its_levels(source: Path, variant: dict[str, Any]) -> None:
    quantized = create_quantized(CONFIG, **variant)
    imported = convert(source, write_tflite(quantized, SIDE))
    assert_same_levels(imported.quantization, quantized.quantization)
    for name, weight in quantized.weights.items():
        assert np.array_equal(imported.weights[name], weight)


@pytest.mark.parametrize(("variant", "style"), STYLES.values(), ids=STYLES)
def test_converters_write_the_same_network_in_several_ways(
    source: Path, variant: dict[str, Any], style: dict[str, Any]
) -> None:
    quantized = create_quantized(CONFIG, **variant)
    content = write_tflite(quantized, 96, **style)
    imported = convert(source, content)
    assert_same_levels(imported.quantization, quantized.quantization)


@pytest.mark.thorough
@pytest.mark.parametrize(("variant", "style"), STYLES.values(), ids=STYLES)
def test_a_quantized_file_gets_litert_s_scores(
    source: Path, variant: dict[str, Any], style: dict[str, Any]
) -> None:
    content = write_tflite(create_quantized(CONFIG, **variant), 96, **style)
    imported = convert(source, content)
    pixels = create_pixels(96, 96, count=6)
    logits = OnnxEngine(imported, 1).run(pixels).logits
    answers = run_litert(content, pixels).reshape(6, -1)
    if style.get("softmax", True):
        np.testing.assert_allclose(softmax(logits), answers, rtol=0, atol=0.51 / 256)
    else:
        np.testing.assert_allclose(logits, answers, rtol=0, atol=1e-5)


def test_float16_constants_are_unpacked(source: Path) -> None:
    folded = create_folded()
    content = write_tflite(folded, SIDE, float16=True)
    imported = convert(source, content)
    kernel = folded.weights["mobilenet_v1.conv_stem.convolution.weight"]
    actual = imported.weights["mobilenet_v1.conv_stem.convolution.weight"]
    assert np.array_equal(actual, kernel.astype(np.float16))


def test_dequantized_it_has_float_weights_alone(source: Path) -> None:
    quantized = create_quantized(CONFIG)
    source.write_bytes(write_tflite(quantized, SIDE))
    directory = source.parent / "imported"
    result = CliRunner().invoke(app, ["convert", str(source), str(directory), "--dequantize"])
    assert result.exit_code == 0
    assert not (directory / "quantization.safetensors").exists()
    imported = load_checkpoint(directory)
    assert imported.quantization is None
    for name, weight in quantized.weights.items():
        assert np.array_equal(imported.weights[name], weight)


def test_a_mean_is_told_from_an_average_pooling(source: Path) -> None:
    quantized = create_quantized(CONFIG, half_up=False, pooled=QuantizationParameters(0.5, 7))
    imported = convert(source, write_tflite(quantized, SIDE, pooling="MEAN"))
    assert imported.quantization
    assert not imported.quantization.half_up
    assert imported.quantization.pooled == QuantizationParameters(0.5, 7)


@pytest.mark.parametrize("pooling", ["AVERAGE_POOL_2D", "MEAN", ""])
@pytest.mark.parametrize("create", [create_folded, create_quantized])
def test_a_feature_extractor_has_no_classes(source: Path, create: Any, pooling: str) -> None:
    content = write_tflite(create(FEATURES), SIDE, pooling=pooling)
    imported = convert(source, content)
    assert imported.config.num_labels == 0
    assert imported.config.id2label == {}


@pytest.mark.thorough
@pytest.mark.parametrize("pooling", ["AVERAGE_POOL_2D", "MEAN", ""])
@pytest.mark.parametrize("create", [create_folded, create_quantized])
def test_a_feature_extractor_gets_litert_s_features(
    source: Path, create: Any, pooling: str
) -> None:
    content = write_tflite(create(FEATURES), SIDE, pooling=pooling)
    imported = convert(source, content)
    pixels = create_pixels(SIDE, SIDE)
    expected = run_litert(content, pixels).mean(axis=(1, 2))
    step = imported.quantization.pooled.scale if imported.quantization else 0
    tolerance = 1e-5 if pooling else 1e-5 + step / 2
    pooled = OnnxEngine(imported, 1).run(pixels).pooled
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=tolerance)


def test_an_input_in_levels_of_its_own_is_scaled_so(source: Path) -> None:
    quantized = create_quantized(CONFIG)
    assert quantized.quantization
    pixels = QuantizationParameters(1 / 255, 0)
    object.__setattr__(quantized.quantization, "input", pixels)
    imported = convert(source, write_tflite(quantized, SIDE))
    scale, offset = imported.preprocessing.scale_and_offset()
    np.testing.assert_allclose(scale, 255, rtol=1e-6)
    assert offset.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("activation", "hidden_act"), [("RELU6", "relu6"), ("RELU", "relu"), ("NONE", "linear")]
)
def test_the_activation_is_the_fused_one(source: Path, activation: str, hidden_act: str) -> None:
    imported = convert(source, write_tflite(create_folded(), SIDE, activation=activation))
    assert imported.config.hidden_act == hidden_act


@pytest.mark.parametrize(
    ("hidden", "hidden_act"),
    [
        (RELU6, "relu6"),
        (QuantizationParameters(float(np.float32(0.05)), 0), "relu"),
        (WIDE, "linear"),
    ],
    ids=str,
)
def test_an_activation_that_is_left_to_the_levels_is_read_from_them(
    source: Path, hidden: QuantizationParameters, hidden_act: str
) -> None:
    quantized = create_quantized(CONFIG, hidden=hidden)
    imported = convert(source, write_tflite(quantized, SIDE, activation="NONE"))
    assert imported.config.hidden_act == hidden_act
