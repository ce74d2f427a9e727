"""Reads a TensorFlow Lite file as a chain of operators, without running anything.

The format is a flatbuffer (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs),
read with the generated classes of the PyPI package `tflite`. They follow any offset in a file, so a
damaged one ends in an exception of any kind, which `read_chain` turns into ours.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import InvalidCheckpointError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of a TensorFlow Lite file."""

_MAX_OPERATORS = 200
_MAX_INPUTS = 3
_MAX_RANK = 4
_DAMAGE = (
    AttributeError,
    IndexError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)
"""What the generated classes raise when an offset leads astray."""

_OTHER_NETWORKS = {
    "ADD": "it has residual connections, as a MobileNet V2 has",
    "CONCATENATION": "it has several branches, as a detector has",
    "CUSTOM": "it has custom operators, as a detector has",
}
_OPTIONS = {  # the classes that read them
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
}
_SHAPE_OPERATORS = {"SHAPE", "STRIDED_SLICE", "PACK"}  # they compute a RESHAPE's second input


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file.

    Attributes:
        scales: one, or one a channel; none if it is not quantized.
        zero_points: as many as scales.
        values: None if it is not a constant.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    values: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the chain.

    Attributes:
        name: such as `CONV_2D`.
        inputs: first the output of the operator before it; None for one left out.
        stride: along height and width, of a convolution; else 0.
        activation: fused, such as `RELU6` or `NONE`.
        padding: `SAME` or `VALID`, of a convolution; else empty.
        window: height and width that a pooling covers; else 0.
    """

    name: str
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    stride: tuple[int, int] = (0, 0)
    activation: str = "NONE"
    padding: str = ""
    dilation: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (0, 0)


def read_chain(data: bytes) -> tuple[Tensor, list[Operator]]:
    """Read a file's input, and its operators from there to the output.

    Raises:
        InvalidCheckpointError: it is damaged, or the operators are not a chain.
        ModelError: the `convert` extra is not installed.
    """
    try:
        import tflite
    except ImportError as error:
        raise ModelError(
            "a .tflite file needs the `convert` extra: pip install -e '.[convert]'"
        ) from error
    try:
        reader = _Reader(tflite, data)
        return reader.input(), list(reader.operators())
    except _DAMAGE as error:
        raise InvalidCheckpointError("is damaged, or cut") from error


class _Reader:
    """Reads the first subgraph of a file; raises any of `_DAMAGE`."""

    def __init__(self, tflite: Any, data: bytes) -> None:
        self._tflite = tflite
        self._model = tflite.Model.GetRootAs(data, 0)
        self._graph = self._model.Subgraphs(0)
        self._unpacked: dict[int, Tensor] = {}
        self._dtypes = {
            getattr(tflite.TensorType, name): np.dtype(name.lower())
            for name in ("FLOAT16", "FLOAT32", "INT8", "UINT8", "INT16", "INT32", "INT64")
        }
        if self._graph.InputsLength() != 1:
            raise InvalidCheckpointError("has several inputs, a MobileNet V1 has one")

    def input(self) -> Tensor:
        return self._tensor(self._graph.Inputs(0))

    def operators(self) -> Iterator[Operator]:
        current = self._graph.Inputs(0)
        if self._graph.OperatorsLength() > _MAX_OPERATORS:
            raise InvalidCheckpointError("has too many operators")
        for position in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(position)
            name = self._name(operator)
            if reason := _OTHER_NETWORKS.get(name):
                raise InvalidCheckpointError(f"is not a MobileNet V1: {reason}")
            if name in _SHAPE_OPERATORS or (name == "DEQUANTIZE" and self._unpack(operator)):
                continue
            single = operator.OutputsLength() == 1 and operator.InputsLength() <= _MAX_INPUTS
            if operator.Inputs(0) != current or not single:
                raise InvalidCheckpointError(
                    f"is not a MobileNet V1: its operators are not a chain ({name})"
                )
            current = operator.Outputs(0)
            yield self._operator(name, operator, current)
        if current not in {self._graph.Outputs(i) for i in range(self._graph.OutputsLength())}:
            raise InvalidCheckpointError("its chain does not end in its output")

    def _unpack(self, operator: Any) -> bool:
        """If an operator widens a float16 constant to float32, keep the result as a constant."""
        packed = self._tensor(operator.Inputs(0))
        if packed.values is None or packed.dtype != np.float16:
            return False
        values = packed.values.astype(np.float32)
        self._unpacked[operator.Outputs(0)] = replace(packed, dtype=values.dtype, values=values)
        return True

    def _name(self, operator: Any) -> str:
        codes = self._model.OperatorCodes(operator.OpcodeIndex())
        # Codes below 127 are stored in the old field, which old files have alone.
        code = max(codes.BuiltinCode(), codes.DeprecatedBuiltinCode())
        return _constant_name(self._tflite.BuiltinOperator, code)

    def _operator(self, name: str, operator: Any, output: int) -> Operator:
        inputs = tuple(
            self._tensor(operator.Inputs(i)) if operator.Inputs(i) >= 0 else None
            for i in range(operator.InputsLength())
        )
        options = self._options(name, operator) if name in _OPTIONS else {}
        return Operator(name, inputs, self._tensor(output), **options)

    def _options(self, name: str, operator: Any) -> dict[str, Any]:
        kind, table = _OPTIONS[name], operator.BuiltinOptions()
        expected = getattr(self._tflite.BuiltinOptions, kind)
        if table is None or operator.BuiltinOptionsType() != expected:
            raise InvalidCheckpointError(f"is damaged: {name} has no options")
        read = getattr(self._tflite, kind)()
        read.Init(table.Bytes, table.Pos)
        activation = read.FusedActivationFunction()
        options: dict[str, Any] = {
            "activation": _constant_name(self._tflite.ActivationFunctionType, activation)
        }
        if name == "AVERAGE_POOL_2D":
            options["window"] = read.FilterHeight(), read.FilterWidth()
        elif name != "FULLY_CONNECTED":
            options["stride"] = read.StrideH(), read.StrideW()
            options["dilation"] = read.DilationHFactor(), read.DilationWFactor()
            options["padding"] = _constant_name(self._tflite.Padding, read.Padding())
        return options

    def _tensor(self, index: int) -> Tensor:
        if not 0 <= index < self._graph.TensorsLength():
            raise IndexError(index)
        if index in self._unpacked:
            return self._unpacked[index]
        tensor = self._graph.Tensors(index)
        rank = tensor.ShapeLength()
        if rank > _MAX_RANK or tensor.Type() not in self._dtypes:
            raise InvalidCheckpointError("is not a MobileNet V1: it has tensors of an unknown kind")
        shape = tuple(int(tensor.Shape(axis)) for axis in range(rank))
        dtype = self._dtypes[tensor.Type()]
        parameters = tensor.Quantization()
        scales, zero_points = np.zeros(0, np.float32), np.zeros(0, np.int64)
        if parameters is not None and parameters.ScaleLength():
            scales = parameters.ScaleAsNumpy().astype(np.float32)
            zero_points = np.zeros(len(scales), np.int64)
            if parameters.ZeroPointLength():
                zero_points = parameters.ZeroPointAsNumpy().astype(np.int64)
            if len(zero_points) != len(scales):
                raise ValueError("scales and zero points do not agree")
        return Tensor(shape, dtype, scales, zero_points, self._values(tensor, shape, dtype))

    def _values(
        self, tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any] | None:
        buffer = self._model.Buffers(tensor.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype.newbyteorder("<"))
        return values.reshape(shape).astype(dtype)


def _constant_name(constants: Any, value: int) -> str:
    """The name that one of the schema's enumerations has for a value."""
    for name, known in vars(constants).items():
        if known == value and name.isupper():
            return str(name)
    raise ValueError(f"{value} is not in the schema")
