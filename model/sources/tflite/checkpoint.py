"""Reads a TensorFlow Lite file (`.tflite`) of MobileNet V1, float or quantized.

TensorFlow's converter has folded BatchNorm into the kernels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.labels import name_classes
from model.errors import InvalidCheckpointError
from model.images.preprocessor_config import Preprocessing
from model.network.config import CLASSIFIER, FULL_DEPTH, MobileNetV1Config
from model.network.folding import unfold
from model.network.quantization import MAX_LEVEL, Quantization, QuantizedLayer, kernel_shapes
from model.sources.tflite.chain import Operator, Tensor, read_chain
from model.sources.tflite.weights import read_floats, read_levels, read_parameters

if TYPE_CHECKING:
    from pathlib import Path

_CONVOLUTIONS = ("CONV_2D", *("DEPTHWISE_CONV_2D", "CONV_2D") * 13)
_POOLINGS = {"AVERAGE_POOL_2D", "MEAN"}
_CLASSIFIERS = {"CONV_2D", "FULLY_CONNECTED"}
_TRAILERS = {"RESHAPE", "SQUEEZE", "SOFTMAX", "DEQUANTIZE", "QUANTIZE"}
_ACTIVATIONS = {"RELU6": "relu6", "RELU": "relu", "NONE": "linear"}
_PAD_AFTER = [[0, 0], [0, 1], [0, 1], [0, 0]]  # what SAME pads at a stride of 2 and an even size
_HIGHEST_OF_RELU6 = 6.01  # with what a scale in float32 adds
_MARGIN = 32  # pixels by which the short side exceeds the crop, as transformers converts it
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

    def convolutions(self, config: MobileNetV1Config) -> dict[str, Operator]:
        """The layers by their keys, the classifier last."""
        operators = [*self.layers, self.classifier] if self.classifier else self.layers
        return dict(zip(kernel_shapes(config), operators, strict=True))


def read_tflite(source: Path, data: bytes) -> Checkpoint:
    """Read a `.tflite` file, which the checkpoint is named after; its weights are not checked.

    A feature extractor may end in L2_NORMALIZATION, which is left to whoever asks for features.

    Raises:
        InvalidCheckpointError: the file is not a MobileNet V1.
        ModelError: the `convert` extra is not installed.
    """
    pixels, operators = read_chain(data)
    quantization = None
    try:
        network = _recognize(pixels, operators)
        config = _create_config(network)
        preprocessing = _create_preprocessing(network)
        if network.layers[0].output.dtype == np.float32:
            convolutions = network.convolutions(config).items()
            floats = {key: read_floats(operator) for key, operator in convolutions}
            weights = unfold(floats, config.layer_norm_eps)
        else:
            quantization = _create_quantization(network, config)
            quantization.check(config)
            weights = quantization.dequantize(config)
    except InvalidCheckpointError as error:
        raise InvalidCheckpointError(f"is not a MobileNet V1: {error}") from error
    except (IndexError, ValueError) as error:
        raise InvalidCheckpointError(
            "is not a MobileNet V1: its shapes or values do not fit"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(source.name, config, preprocessing, weights, digest, quantization)


def _recognize(pixels: Tensor, operators: list[Operator]) -> _Network:
    """Assign the operators their roles by their order."""
    if quantize := _take(operators, {"QUANTIZE"}):
        pixels = quantize.output
    layers = [_take_layer(operators, position) for position in range(len(_CONVOLUTIONS))]
    last = layers[-1].output
    pooling = _take(operators, _POOLINGS)
    if pooling and pooling.window not in ((0, 0), last.shape[1:3]):
        raise InvalidCheckpointError("its pooling does not cover the whole last map")
    operators = [operator for operator in operators if operator.name not in _TRAILERS]
    classifier = _take(operators, _CLASSIFIERS)
    if classifier and not pooling:
        raise InvalidCheckpointError("its classifier reads a map that was not averaged")
    if classifier and classifier.activation != "NONE":
        raise InvalidCheckpointError(f"its logits go through {classifier.activation}")
    if not classifier:
        _take(operators, {"L2_NORMALIZATION"})
    if operators:
        raise InvalidCheckpointError(f"{operators[0].name} follows its last layer")
    half_up = pooling is None or pooling.name != "MEAN"
    return _Network(pixels, layers, pooling.output if pooling else last, half_up, classifier)


def _take(operators: list[Operator], names: set[str]) -> Operator | None:
    """Take the first operator off, if it is one of these."""
    return operators.pop(0) if operators and operators[0].name in names else None


def _take_layer(operators: list[Operator], position: int) -> Operator:
    """Take a convolution off, and the padding before it."""
    name = _CONVOLUTIONS[position]
    if padding := _take(operators, {"PAD"}):
        _, amounts = padding.inputs
        if amounts is None or amounts.values is None or amounts.values.tolist() != _PAD_AFTER:
            raise InvalidCheckpointError("it pads in another way")
    found = operators[0].name if operators else "the end"
    operator = _take(operators, {name})
    if operator is None:
        raise InvalidCheckpointError(f"{found} stands where {name} {position + 1} of 27 should")
    pointwise = position > 0 and name == "CONV_2D"
    if not pointwise and operator.padding != ("VALID" if padding else "SAME"):
        raise InvalidCheckpointError("it pads in another way")
    return operator


def _create_config(network: _Network) -> MobileNetV1Config:
    _, height, width, _ = network.input.shape
    if height != width:
        raise InvalidCheckpointError(f"its input is {height}x{width}, not square")
    classes = network.classifier.output.shape[-1] if network.classifier else 0
    config = MobileNetV1Config(
        image_size=height,
        depth_multiplier=network.layers[-1].output.shape[-1] / FULL_DEPTH,
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
    settings: dict[str, object] = {"size": side + _MARGIN, "crop_size": side}
    if len(network.input.scales):
        pixels = read_parameters(network.input)
        mean, std = pixels.zero_point / 255, 1 / (255 * pixels.scale)
        if max(abs(mean - 0.5), abs(std - 0.5)) > _HALF_TOLERANCE:
            settings |= {"image_mean": mean, "image_std": std}
    return Preprocessing.model_validate(settings)


def _create_quantization(network: _Network, config: MobileNetV1Config) -> Quantization:
    """The levels of a file whose maps are quantized."""
    pixels = source = read_parameters(network.input)
    pooled = read_parameters(network.last)
    layers: dict[str, QuantizedLayer] = {}
    for key, operator in network.convolutions(config).items():
        layers[key] = read_levels(operator, pooled if key == CLASSIFIER else source)
        source = layers[key].output
    return Quantization(pixels, layers, pooled, network.half_up)
