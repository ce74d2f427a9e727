"""Write small TensorFlow Lite files, as the converter would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import tflite

from model.network.config import CLASSIFIER
from model.network.quantization import QuantizationParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9, "float16": 1}


@dataclass
class TfliteWriter:
    """Tensors and operators, one after the other."""

    builder: Any = field(default_factory=lambda: flatbuffers.Builder(1 << 16))
    buffers: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        values: NDArray[Any] | None = None,
        *,
        scales: Sequence[float] | NDArray[np.float32] = (),
        zero_points: Sequence[int] = (),
        axis: int = 0,
    ) -> int:
        """Add a tensor, a constant if it has values; return its index."""
        data = None if values is None else values.tobytes()
        content = None if data is None else self.builder.CreateByteVector(data)
        tflite.BufferStart(self.builder)
        if content is not None:
            tflite.BufferAddData(self.builder, content)
        self.buffers.append(tflite.BufferEnd(self.builder))
        sides = self._vector(np.asarray(shape, np.int32))
        parameters = None
        if len(scales):
            scale = self._vector(np.asarray(scales, np.float32))
            zero_point = self._vector(np.asarray(zero_points, np.int64))
            tflite.QuantizationParametersStart(self.builder)
            tflite.QuantizationParametersAddScale(self.builder, scale)
            tflite.QuantizationParametersAddZeroPoint(self.builder, zero_point)
            tflite.QuantizationParametersAddQuantizedDimension(self.builder, axis)
            parameters = tflite.QuantizationParametersEnd(self.builder)
        name = self.builder.CreateString(f"tensor{len(self.tensors)}")
        tflite.TensorStart(self.builder)
        tflite.TensorAddShape(self.builder, sides)
        tflite.TensorAddType(self.builder, TYPES[dtype])
        tflite.TensorAddBuffer(self.builder, len(self.buffers))
        tflite.TensorAddName(self.builder, name)
        if parameters is not None:
            tflite.TensorAddQuantization(self.builder, parameters)
        self.tensors.append(tflite.TensorEnd(self.builder))
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], output: int, options: str = "", **values: Any
    ) -> None:
        """Add an operator; values are those of its options' fields."""
        if name not in self.codes:
            self.codes.append(name)
        sources, targets = (self._vector(np.asarray(i, np.int32)) for i in (inputs, [output]))
        table = None
        if options:
            getattr(tflite, f"{options}Start")(self.builder)
            for key, value in values.items():
                getattr(tflite, f"{options}Add{key}")(self.builder, value)
            table = getattr(tflite, f"{options}End")(self.builder)
        tflite.OperatorStart(self.builder)
        tflite.OperatorAddOpcodeIndex(self.builder, self.codes.index(name))
        tflite.OperatorAddInputs(self.builder, sources)
        tflite.OperatorAddOutputs(self.builder, targets)
        if table is not None:
            kind = getattr(tflite.BuiltinOptions, options)
            tflite.OperatorAddBuiltinOptionsType(self.builder, kind)
            tflite.OperatorAddBuiltinOptions(self.builder, table)
        self.operators.append(tflite.OperatorEnd(self.builder))

    def finish(self, source: int, target: int) -> bytes:
        """The whole file."""
        builder = self.builder
        tflite.BufferStart(builder)
        empty = tflite.BufferEnd(builder)  # buffer 0 is that of tensors without values
        codes = []
        for name in self.codes:
            tflite.OperatorCodeStart(builder)
            code = getattr(tflite.BuiltinOperator, name)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)
            tflite.OperatorCodeAddBuiltinCode(builder, code)
            tflite.OperatorCodeAddVersion(builder, 3 if "CONV" in name else 2)
            codes.append(tflite.OperatorCodeEnd(builder))
        tensors, operators = self._offsets(self.tensors), self._offsets(self.operators)
        sources, targets = (self._vector(np.asarray([i], np.int32)) for i in (source, target))
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, tensors)
        tflite.SubGraphAddInputs(builder, sources)
        tflite.SubGraphAddOutputs(builder, targets)
        tflite.SubGraphAddOperators(builder, operators)
        subgraphs = self._offsets([tflite.SubGraphEnd(builder)])
        buffers, all_codes = self._offsets([empty, *self.buffers]), self._offsets(codes)
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        tflite.ModelAddOperatorCodes(builder, all_codes)
        tflite.ModelAddSubgraphs(builder, subgraphs)
        tflite.ModelAddBuffers(builder, buffers)
        builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _vector(self, values: NDArray[Any]) -> int:
        return int(self.builder.CreateNumpyVector(values))

    def _offsets(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())


@dataclass(frozen=True)
class Style:
    """What one converter does and another does not.

    Attributes:
        pooling: `AVERAGE_POOL_2D`, `MEAN`, or nothing for a feature extractor without one.
        activation: fused into the convolutions.
        classifier: `CONV_2D` or `FULLY_CONNECTED`.
        softmax: after the classifier.
        quantizes: uint8 at both ends of a network of int8.
        pads: before a stride of 2, with an operator of its own.
        float16: kernels are stored so.
    """

    pooling: str = "AVERAGE_POOL_2D"
    activation: str = "RELU6"
    classifier: str = "CONV_2D"
    softmax: bool = True
    quantizes: bool = False
    pads: bool = False
    float16: bool = False


@dataclass
class _Network:
    """One checkpoint, written layer by layer from the input on; maps are square."""

    checkpoint: Checkpoint
    height: int
    style: Style
    writer: TfliteWriter = field(default_factory=TfliteWriter)
    current: int = -1
    map_kind: tuple[int, QuantizationParameters | None] = (0, None)

    @property
    def signed(self) -> bool:
        """LiteRT has scales for each channel with int8 levels only."""
        quantization = self.checkpoint.quantization
        if quantization is None:
            return False
        return any(len(layer.scales) > 1 for layer in quantization.layers.values())

    def add_map(self, channels: int, parameters: QuantizationParameters | None) -> int:
        self.map_kind = channels, parameters
        shape = (1, self.height, self.height, channels)
        if parameters is None:
            return self.writer.tensor(shape, "float32")
        dtype, offset = ("int8", 128) if self.signed else ("uint8", 0)
        zero_point = parameters.zero_point - offset
        return self.writer.tensor(shape, dtype, scales=[parameters.scale], zero_points=[zero_point])

    def add_operator(self, name: str, target: int, options: str, *more: int, **values: Any) -> None:
        self.writer.operator(name, [self.current, *more], target, options, **values)
        self.current = target

    def add_convolution(self, key: str, channels: int, name: str, stride: int = 1) -> None:
        depthwise = name == "DEPTHWISE_CONV_2D"
        quantization, activation = self.checkpoint.quantization, "NONE"
        self.height = -(-self.height // stride)
        if key != CLASSIFIER:
            activation = self.style.activation
        padded = self.style.pads and stride > 1
        if padded:
            self._add_padding(stride)
        flat = name == "FULLY_CONNECTED"
        weights = self._add_weights(key, depthwise=depthwise, flat=flat)
        output = quantization.layers[key].output if quantization else None
        target = self.add_map(channels, output)
        if flat:
            self.add_operator(name, target, "FullyConnectedOptions", *weights)
            return
        self.add_operator(
            name,
            target,
            "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
            *weights,
            StrideH=stride,
            StrideW=stride,
            Padding=int(padded),
            FusedActivationFunction=getattr(tflite.ActivationFunctionType, activation),
            **({"DepthMultiplier": 1} if depthwise else {}),
        )

    def _add_padding(self, stride: int) -> None:
        """Pad after the last row and column by hand, as Keras does."""
        height = self.height
        self.height = stride * height + 1
        target = self.add_map(*self.map_kind)
        self.height = height
        ends = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32)
        self.add_operator("PAD", target, "PadOptions", self.writer.tensor((4, 2), "int32", ends))

    def _add_weights(self, key: str, *, depthwise: bool, flat: bool) -> tuple[int, int]:
        order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        if self.checkpoint.quantization is None:
            names = [f"{key}.convolution.weight", f"{key}.normalization.bias"]
            if key == CLASSIFIER:
                names = ["classifier.weight", "classifier.bias"]
            kernel, bias = (self.checkpoint.weights[name] for name in names)
            kernel = kernel[:, :, None, None] if kernel.ndim == 2 else kernel
            values = np.ascontiguousarray(kernel.transpose(order))
            values = values[:, 0, 0] if flat else values
            return self._add_kernel(values), self.writer.tensor(bias.shape, "float32", bias)
        layer = self.checkpoint.quantization.layers[key]
        levels: NDArray[Any] = np.ascontiguousarray(layer.kernel.transpose(order))
        levels = levels[:, 0, 0] if flat else levels
        zero_points = [layer.zero_point] * len(layer.scales)
        if self.signed:
            levels, zero_points = (levels ^ 128).view(np.int8), [0] * len(layer.scales)
        kernel_levels = self.writer.tensor(
            levels.shape,
            levels.dtype.name,
            levels,
            scales=layer.scales,
            zero_points=zero_points,
            axis=3 if depthwise and self.signed else 0,
        )
        bias_units = self.writer.tensor(
            layer.bias.shape,
            "int32",
            layer.bias,
            scales=layer.bias_scales,
            zero_points=[0] * len(layer.scales),
        )
        return kernel_levels, bias_units

    def _add_kernel(self, values: NDArray[np.float32]) -> int:
        if not self.style.float16:
            return self.writer.tensor(values.shape, "float32", values)
        packed = self.writer.tensor(values.shape, "float16", values.astype(np.float16))
        unpacked = self.writer.tensor(values.shape, "float32")
        self.writer.operator("DEQUANTIZE", [packed], unpacked)
        return unpacked

    def add_quantize(self, *, signed: bool) -> None:
        """The same levels, as int8 or as uint8."""
        shape = (1, self.height, self.height, self.map_kind[0])
        target = self.add_map(*self.map_kind) if signed else self.add_bytes(shape)
        self.add_operator("QUANTIZE", target, "")

    def add_bytes(self, shape: tuple[int, ...]) -> int:
        parameters = self.map_kind[1]
        assert parameters
        scales, zero_points = [parameters.scale], [parameters.zero_point]
        return self.writer.tensor(shape, "uint8", scales=scales, zero_points=zero_points)


def write_tflite(checkpoint: Checkpoint, side: int, **style: Any) -> bytes:
    """A checkpoint as a `.tflite` for inputs of (1, side, side, 3).

    Args:
        checkpoint: its levels if it is quantized, else its float weights with identity BatchNorm.
        side: in pixels.
        style: as in `Style`.
    """
    network = _Network(checkpoint, side, Style(**style))
    config, quantization = checkpoint.config, checkpoint.quantization
    network.map_kind = 3, quantization.input if quantization else None
    if network.style.quantizes:
        first = network.current = network.add_bytes((1, side, side, 3))
        network.add_quantize(signed=True)
    else:
        first = network.current = network.add_map(*network.map_kind)
    for layer in config.layers:
        name = "DEPTHWISE_CONV_2D" if layer.groups > 1 else "CONV_2D"
        network.add_convolution(layer.key, layer.out_channels, name, layer.stride)
    if network.style.pooling:
        _add_pooling(network)
    if config.num_labels:
        network.add_convolution(CLASSIFIER, config.num_labels, network.style.classifier)
        if network.style.softmax:
            scores = QuantizationParameters(1 / 256, 0) if quantization else None
            target = network.add_map(config.num_labels, scores)
            network.add_operator("SOFTMAX", target, "SoftmaxOptions", Beta=1.0)
    if network.style.quantizes:
        network.add_quantize(signed=False)
    return network.writer.finish(first, network.current)


def _add_pooling(network: _Network) -> None:
    window = {"FilterHeight": network.height, "FilterWidth": network.height, "Padding": 1}
    network.height = 1
    quantization, name = network.checkpoint.quantization, network.style.pooling
    channels = network.checkpoint.config.num_features
    target = network.add_map(channels, quantization.pooled if quantization else None)
    if name == "MEAN":
        axes = network.writer.tensor([2], "int32", np.array([1, 2], np.int32))
        network.add_operator(name, target, "ReducerOptions", axes, KeepDims=True)
    else:
        network.add_operator(name, target, "Pool2DOptions", StrideH=1, StrideW=1, **window)
