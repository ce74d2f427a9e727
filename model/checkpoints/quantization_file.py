"""Reads and writes `quantization.safetensors`: a `Quantization` as named tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from model.errors import InvalidCheckpointError
from model.network.config import CLASSIFIER
from model.network.quantization import (
    Quantization,
    QuantizationParameters,
    QuantizedLayer,
    kernel_shapes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.network.config import MobileNetV1Config

_EXACT_LOGITS = f"{CLASSIFIER}.exact"
"""Absent where the logits have levels."""


def write_quantization(quantization: Quantization) -> bytes:
    """Serialize a quantized network."""
    tensors = {**_write("input", quantization.input), **_write("pooled", quantization.pooled)}
    tensors["pooled.half_up"] = np.array(quantization.half_up)
    if quantization.exact_logits:
        tensors[_EXACT_LOGITS] = np.array(quantization.exact_logits)
    for key, (kernel, bias) in quantization.leading.items():
        tensors |= {f"{key}.kernel": kernel, f"{key}.bias": bias}
    for key, layer in quantization.layers.items():
        tensors |= {
            f"{key}.kernel": layer.kernel,
            f"{key}.scales": layer.scales,
            f"{key}.zero_point": np.array(layer.zero_point, np.uint8),
            f"{key}.bias": layer.bias,
            **_write(f"{key}.output", layer.output),
        }
    return safetensors.numpy.save(tensors)


def read_quantization(data: bytes, config: MobileNetV1Config) -> Quantization:
    """Read and verify what `write_quantization` wrote of a network.

    Raises:
        InvalidCheckpointError: the file is damaged, or a tensor is missing, unknown, of another
            shape or type, or has impossible values.
    """
    try:
        reader = _Reader(safetensors.numpy.load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpointError("is not a safetensors file, or is cut") from error
    pixels, pooled = reader.parameters("input"), reader.parameters("pooled")
    leading: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    layers: dict[str, QuantizedLayer] = {}
    source = pixels
    for key, shape in kernel_shapes(config).items():
        if not layers and key != CLASSIFIER and reader.is_real(f"{key}.kernel"):
            leading[key] = (
                reader.read(f"{key}.kernel", np.float32, shape),
                reader.read(f"{key}.bias", np.float32, (shape[0],)),
            )
            continue
        source = pooled if key == CLASSIFIER else source
        layers[key] = QuantizedLayer(
            kernel=reader.read(f"{key}.kernel", np.uint8, shape),
            scales=reader.read(f"{key}.scales", np.float32, (1,), (shape[0],)),
            zero_point=int(reader.read(f"{key}.zero_point", np.uint8, ())),
            bias=reader.read(f"{key}.bias", np.int32, (shape[0],)),
            input=source,
            output=reader.parameters(f"{key}.output"),
        )
        source = layers[key].output
    half_up = bool(reader.read("pooled.half_up", np.bool_, ()))
    exact = _EXACT_LOGITS in reader and bool(reader.read(_EXACT_LOGITS, np.bool_, ()))
    reader.check_that_all_was_read()
    quantization = Quantization(pixels, layers, pooled, half_up, exact, leading)
    quantization.check(config)
    return quantization


def _write(name: str, parameters: QuantizationParameters) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.scale": np.array(parameters.scale, np.float32),
        f"{name}.zero_point": np.array(parameters.zero_point, np.uint8),
    }


class _Reader:
    """Named tensors, each read once, of the type and shape that is asked for."""

    def __init__(self, tensors: dict[str, NDArray[Any]]) -> None:
        self._tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def is_real(self, name: str) -> bool:
        return name in self and self._tensors[name].dtype == np.float32

    def read(self, name: str, dtype: type, *shapes: tuple[int, ...]) -> NDArray[Any]:
        if name not in self._tensors:
            raise InvalidCheckpointError(f"has no tensor {name}")
        tensor = self._tensors.pop(name)
        if tensor.dtype != dtype or tensor.shape not in shapes:
            raise InvalidCheckpointError(
                f"{name} is {tensor.dtype}{tensor.shape}, not {np.dtype(dtype)}{shapes[-1]}"
            )
        return tensor

    def parameters(self, name: str) -> QuantizationParameters:
        scale = float(self.read(f"{name}.scale", np.float32, ()))
        if not (math.isfinite(scale) and scale > 0):
            raise InvalidCheckpointError(f"{name}.scale is not finite and positive")
        return QuantizationParameters(scale, int(self.read(f"{name}.zero_point", np.uint8, ())))

    def check_that_all_was_read(self) -> None:
        if self._tensors:
            raise InvalidCheckpointError(f"has an unknown tensor {min(self._tensors)!r}")
