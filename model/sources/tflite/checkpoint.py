"""Reads a TensorFlow Lite file (`.tflite`) of MobileNet V1, float or quantized.

TensorFlow's converter has folded BatchNorm into the kernels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.checkpoints.checkpoint import Checkpoint, check_input_size, check_weights
from model.checkpoints.labels import name_classes
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import MobileNetV1Config
from model.network.folding import identity_batch_norm
from model.network.quantization import CLASSIFIER, MAX_LEVEL, Quantization, QuantizedLayer
from model.sources.tflite.chain import Operator, Tensor, read_chain
from model.sources.tflite.weights import read_floats, read_levels, read_parameters

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_FULL_DEPTH = 1024
_CONVOLUTIONS = ("CONV_2D", *("DEPTHWISE_CONV_2D", "CONV_2D") * 13)
_POOLINGS = {"AVERAGE_POOL_2D", "MEAN"}
_CLASSIFIERS = {"CONV_2D", "FULLY_CONNECTED"}
_TRAILERS = {"RESHAPE", "SQUEEZE", "SOFTMAX", "DEQUANTIZE", "QUANTIZE"}
_ACTIVATIONS = {"RELU6": "relu6", "RELU": "relu", "NONE": "linear"}
_PAD_AFTER = [[0, 0], [0, 1], [0, 1], [0, 0]]  # what SAME pads at a stride of 2 and an even size
_HIGHEST_OF_RELU6 = 6.01  # with what a scale in float32 adds
_HALF_TOLERANCE = 0.005  # half a level


@dataclass(frozen=True)
class _Network:
    """The operators of a MobileNet V1, by their role.

    Attributes:
        input: of the first convolution.
        layers: the 27 convolutions.
        last: the averaged last map, or the last map itself.
        half_up: see `Quantization`.
        classifier: None in a feature extractor.
    """

    input: Tensor
    layers: list[Operator]
    last: Tensor
    half_up: bool
    classifier: Operator | None


def read_tflite(source: Path, data: bytes) -> Checkpoint:
    """Read a `.tflite` file.

    A feature extractor may end in L2_NORMALIZATION, which is left to whoever asks for features.

    Args:
        source: named in errors.
        data: the file.

    Raises:
        InvalidCheckpointError: the file is not a MobileNet V1.
        ModelError: the `convert` extra is not installed.
    """
    pixels, chain = read_chain(source, data)
    try:
        network = _recognize(pixels, chain)
        config = _create_config(pixels, network)
        preprocessing = _create_preprocessing(network)
        quantization = None
        if network.layers[0].output.dtype == np.float32:
            weights = _create_weights(network, config)
        else:
            quantization = _create_quantization(network, config)
            quantization.check(config)
            weights = quantization.dequantize(config)
    except (InvalidCheckpointError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, InvalidCheckpointError) else ""
        raise InvalidCheckpointError(
            f"{source}: is not a MobileNet V1: {reason or 'its shapes or values do not fit'}"
        ) from error
    check_input_size(source, preprocessing)
    check_weights(source, weights, config)
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(source.name, config, preprocessing, weights, digest, quantization)


def _recognize(pixels: Tensor, chain: list[Operator]) -> _Network:
    """Assign the operators their roles by their order."""
    operators = list(chain)
    if operators and operators[0].name == "QUANTIZE":
        pixels = operators.pop(0).output
    layers = _take_layers(operators)
    pooling = operators.pop(0) if operators and operators[0].name in _POOLINGS else None
    last = pooling.output if pooling else layers[-1].output
    if pooling and pooling.window != (0, 0) and pooling.window != layers[-1].output.shape[1:3]:
        raise InvalidCheckpointError("its pooling does not cover the whole last map")
    operators = [operator for operator in operators if operator.name not in _TRAILERS]
    classifier = operators.pop(0) if operators and operators[0].name in _CLASSIFIERS else None
    if classifier and not pooling:
        raise InvalidCheckpointError("its classifier reads a map that was not averaged")
    if not classifier and operators and operators[0].name == "L2_NORMALIZATION":
        operators.pop(0)
    if operators:
        raise InvalidCheckpointError(f"{operators[0].name} follows its last layer")
    half_up = pooling is None or pooling.name != "MEAN"
    return _Network(pixels, layers, last, half_up, classifier)


def _take_layers(operators: list[Operator]) -> list[Operator]:
    """Take the 27 convolutions off the front."""
    layers = []
    for position, name in enumerate(_CONVOLUTIONS):
        padded = bool(operators) and operators[0].name == "PAD"
        if padded:
            _, paddings = operators.pop(0).inputs
            if (
                paddings is None
                or paddings.values is None
                or paddings.values.tolist() != _PAD_AFTER
            ):
                raise InvalidCheckpointError("it pads in another way")
        if not operators or operators[0].name != name:
            found = operators[0].name if operators else "the end"
            raise InvalidCheckpointError(f"{found} stands where {name} {position + 1} of 27 should")
        operator = operators.pop(0)
        pointwise = position > 0 and name == "CONV_2D"
        if not pointwise and operator.padding != ("VALID" if padded else "SAME"):
            raise InvalidCheckpointError("it pads in another way")
        layers.append(operator)
    return layers


def _create_config(pixels: Tensor, network: _Network) -> MobileNetV1Config:
    _, height, width, _ = pixels.shape
    if height != width:
        raise InvalidCheckpointError(f"its input is {height}x{width}, not square")
    classes = network.classifier.output.shape[-1] if network.classifier else 0
    config = MobileNetV1Config(
        image_size=height,
        depth_multiplier=network.layers[-1].output.shape[-1] / _FULL_DEPTH,
        hidden_act=_hidden_act(network.layers),
        id2label=name_classes(classes),
    )
    for layer, operator in zip(config.layers, network.layers, strict=True):
        if operator.stride != (layer.stride,) * 2 or operator.dilation != (1, 1):
            raise InvalidCheckpointError(f"{layer.end_point} has another stride")
    return config


def _hidden_act(layers: list[Operator]) -> str:
    """The fused activation; a quantized file may leave it to the range of the maps' levels."""
    activations = {operator.activation for operator in layers}
    if len(activations) > 1 or not activations <= _ACTIVATIONS.keys():
        raise InvalidCheckpointError(f"its activations are {sorted(activations)}")
    activation = _ACTIVATIONS[activations.pop()]
    if activation != "linear" or layers[0].output.dtype == np.float32:
        return activation
    parameters = [read_parameters(operator.output) for operator in layers]
    if any(one.zero_point > 0 for one in parameters):
        return activation
    highest = max(one.scale for one in parameters) * MAX_LEVEL
    return "relu6" if highest < _HIGHEST_OF_RELU6 else "relu"


def _create_preprocessing(network: _Network) -> Preprocessing:
    """The released networks see [-1, 1], up to rounding; other ranges show in the levels."""
    side = network.input.shape[1]
    settings: dict[str, object] = {
        "size": {"shortest_edge": side + 32},
        "crop_size": {"height": side, "width": side},
    }
    if len(network.input.scales):
        pixels = read_parameters(network.input)
        mean, std = pixels.zero_point / 255, 1 / (255 * pixels.scale)
        if max(abs(mean - 0.5), abs(std - 0.5)) > _HALF_TOLERANCE:
            settings |= {"image_mean": (mean,) * 3, "image_std": (std,) * 3}
    return Preprocessing.model_validate(settings)


def _create_weights(network: _Network, config: MobileNetV1Config) -> dict[str, NDArray[np.float32]]:
    """The weights of a file whose maps are float32."""
    weights: dict[str, NDArray[np.float32]] = {}
    for layer, operator in zip(config.layers, network.layers, strict=True):
        weights |= identity_batch_norm(layer.key, *read_floats(operator), config.layer_norm_eps)
    if network.classifier:
        kernel, bias = read_floats(network.classifier)
        weights |= {"classifier.weight": kernel[:, :, 0, 0], "classifier.bias": bias}
    return weights


def _create_quantization(network: _Network, config: MobileNetV1Config) -> Quantization:
    """The levels of a file whose maps are quantized."""
    pixels = source = read_parameters(network.input)
    pooled = read_parameters(network.last)
    layers: dict[str, QuantizedLayer] = {}
    for layer, operator in zip(config.layers, network.layers, strict=True):
        layers[layer.key] = read_levels(operator, source)
        source = layers[layer.key].output
    if network.classifier:
        layers[CLASSIFIER] = read_levels(network.classifier, pooled)
    return Quantization(pixels, layers, pooled, network.half_up)
