"""Random networks on levels, and the same ones as LiteRT runs them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy

from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.quantization_file import write_quantization
from model.engines.base import default_outputs
from model.engines.onnx.model import create_model
from model.images.preprocessor_config import Preprocessing
from model.network.config import CLASSIFIER, MobileNetV1Config
from model.network.quantization import (
    Quantization,
    QuantizationParameters,
    QuantizedLayer,
    kernel_shapes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIXELS = QuantizationParameters(1 / 128, 128)
RELU6 = QuantizationParameters(float(np.float32(6 / 255)), 0)
"""What the released networks have: every level is one that ReLU6 leaves."""
WIDE = QuantizationParameters(float(np.float32(0.04)), 37)
"""Levels of -1.48 to 8.72: more than ReLU6 leaves at either end."""
LOGITS = QuantizationParameters(float(np.float32(0.11)), 96)


def create_layer(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    source: QuantizationParameters,
    target: QuantizationParameters,
    *,
    per_channel: bool = False,
) -> QuantizedLayer:
    """Levels that keep the activations alive."""
    # Scales for each channel go with int8 levels around 0, of which -128 is not used.
    zero_point, lowest = (128, 1) if per_channel else (int(rng.integers(90, 160)), 0)
    kernel = np.clip(np.round(rng.normal(zero_point, 40, shape)), lowest, 255).astype(np.uint8)
    scale = 1.2 / (40 * np.sqrt(np.prod(shape[1:])))
    scales = scale * rng.uniform(0.5, 2, shape[0] if per_channel else 1)
    bias = rng.normal(0.8, 0.8, shape[0]) / (scale * source.scale)
    return QuantizedLayer(
        kernel,
        scales.astype(np.float32),
        zero_point,
        np.round(bias).astype(np.int32),
        input=source,
        output=target,
    )


def create_quantization(
    config: MobileNetV1Config,
    hidden: QuantizationParameters = RELU6,
    pooled: QuantizationParameters | None = None,
    *,
    half_up: bool = True,
    per_channel: bool = False,
    seed: int = 0,
) -> Quantization:
    rng = np.random.default_rng(seed)
    pooled = pooled or hidden
    layers: dict[str, QuantizedLayer] = {}
    source = PIXELS
    for key, shape in kernel_shapes(config).items():
        classifies = key == CLASSIFIER
        layers[key] = create_layer(
            rng,
            shape,
            pooled if classifies else source,
            LOGITS if classifies else hidden,
            per_channel=per_channel,
        )
        source = hidden
    return Quantization(PIXELS, layers, pooled, half_up)


def create_quantized(config: MobileNetV1Config, **settings: Any) -> Checkpoint:
    quantization = create_quantization(config, **settings)
    weights = quantization.dequantize(config)
    return Checkpoint("random", config, Preprocessing(), weights, "", quantization)


def create_pixels(height: int, width: int, count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def count_optimized_nodes(checkpoint: Checkpoint, path: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime makes of a quantized checkpoint."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # it warns that the file is for this machine
    model = create_model(checkpoint, default_outputs(checkpoint.config))
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def quantization_tensors(quantization: Quantization) -> dict[str, NDArray[Any]]:
    """All levels and parameters by name, to compare."""
    tensors: dict[str, NDArray[Any]] = safetensors.numpy.load(write_quantization(quantization))
    return tensors


def assert_same_levels(actual: Quantization | None, expected: Quantization | None) -> None:
    """Every level and parameter, to the bit."""
    assert actual
    assert expected
    ours, theirs = quantization_tensors(actual), quantization_tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert np.array_equal(ours[name], tensor)
