"""Reads the weights of a TensorFlow Lite file's operators, as float32 and as levels.

The converter keeps kernels as (out, height, width, in), and depthwise ones as (1, height, width,
channels). An int8 level is 128 less than the same uint8 level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import InvalidCheckpointError
from model.network.quantization import MAX_LEVEL, QuantizationParameters, QuantizedLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.sources.tflite.chain import Operator, Tensor

_INT8_OFFSET = 128


def read_parameters(tensor: Tensor) -> QuantizationParameters:
    """Scale and zero point of a map's levels, as uint8.

    Raises:
        InvalidCheckpointError: they are not of 8 bits, or impossible.
    """
    if len(tensor.scales) != 1 or tensor.dtype not in (np.uint8, np.int8):
        raise InvalidCheckpointError(f"a map is {tensor.dtype} with {len(tensor.scales)} scales")
    zero_point = int(tensor.zero_points[0]) + (_INT8_OFFSET if tensor.dtype == np.int8 else 0)
    if not 0 <= zero_point <= MAX_LEVEL or not 0 < tensor.scales[0] < np.inf:
        raise InvalidCheckpointError("a map's scale or zero point cannot be")
    return QuantizationParameters(float(tensor.scales[0]), zero_point)


def read_levels(operator: Operator, source: QuantizationParameters) -> QuantizedLayer:
    """Read one convolution on a map of `source`, or raise `InvalidCheckpointError`."""
    return QuantizedLayer(
        *_kernel_levels(*_kernel(operator)),
        bias=_bias(operator, np.int32),
        input=source,
        output=read_parameters(operator.output),
    )


def read_floats(operator: Operator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (out, in / groups, height, width) and bias (out,) of a layer whose maps are float32.

    Its kernel may still be quantized; the converter calls that dynamic range quantization.

    Raises:
        InvalidCheckpointError: it has no constant kernel.
    """
    tensor, kernel = _kernel(operator)
    bias = _bias(operator, np.float32)
    if tensor.dtype == np.float32:
        return kernel, bias
    levels, scales, zero_point = _kernel_levels(tensor, kernel)
    return (levels.astype(np.float32) - zero_point) * scales[:, None, None, None], bias


def _kernel(operator: Operator) -> tuple[Tensor, NDArray[Any]]:
    """An operator's kernel, (out, in / groups, height, width)."""
    kernel = operator.inputs[1]
    if kernel is None or kernel.values is None:
        raise InvalidCheckpointError(f"a {operator.name} has no kernel")
    if operator.name == "FULLY_CONNECTED":
        return kernel, kernel.values[:, :, None, None]
    order = (3, 0, 1, 2) if operator.name == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
    return kernel, np.ascontiguousarray(kernel.values.transpose(order))


def _bias(operator: Operator, dtype: type) -> NDArray[Any]:
    bias = next(iter(operator.inputs[2:]), None)
    if bias is None or bias.values is None:
        return np.zeros(operator.output.shape[-1], dtype)
    if bias.dtype != dtype:
        raise InvalidCheckpointError(f"a bias is {bias.dtype}")
    return bias.values


def _kernel_levels(
    tensor: Tensor, kernel: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Kernel, scales and zero point as in `QuantizedLayer`."""
    offset = _INT8_OFFSET if tensor.dtype == np.int8 else 0
    zero_points = {int(zero_point) + offset for zero_point in tensor.zero_points}
    if tensor.dtype not in (np.uint8, np.int8) or len(zero_points) != 1:
        raise InvalidCheckpointError(
            f"a kernel is {tensor.dtype} with {len(zero_points)} zero points"
        )
    zero_point = zero_points.pop()
    if not 0 <= zero_point <= MAX_LEVEL or len(tensor.scales) not in {1, len(kernel)}:
        raise InvalidCheckpointError("a kernel's zero point or scales cannot be")
    return (kernel.astype(np.int16) + offset).astype(np.uint8), tensor.scales, zero_point
