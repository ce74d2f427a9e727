"""Reads the levels of a frozen graph trained for quantization (FakeQuantWithMinMaxVars).

tf.contrib.quantize folds BatchNorm into the kernels and puts a FakeQuant node after each kernel
(`weights_quant`) and after each activation (`act_quant`): the network learns with numbers that are
rounded to the levels of a range. Its ranges are nudged so that 0 is a level
(https://www.tensorflow.org/api_docs/python/tf/quantization/fake_quant_with_min_max_vars).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import InvalidCheckpointError
from model.network.config import CLASSIFIER, MobileNetV1Config
from model.network.quantization import (
    MAX_LEVEL,
    Quantization,
    QuantizationParameters,
    QuantizedLayer,
)
from model.sources.frozen_graph.constants import Constants, node_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAKE_QUANT = "FakeQuantWithMinMaxVars"
_DEPTHWISE = "DepthwiseConv2dNative"
_ADDITIONS = ("Add", "AddV2", "BiasAdd")
_POOLINGS = ("AvgPool", "Mean")
_BITS = 8
_MAX_IDENTITIES = 20  # in a row: a damaged graph can have a cycle
_RELEASED_INPUT = QuantizationParameters(1 / 128, 128)
"""Of pixels, if the graph does not say: mean and deviation of 128, as its converter was given."""


def read_fake_quant(graph: Any) -> tuple[Quantization, str]:
    """Read a GraphDef with FakeQuant nodes: its levels, and its `hidden_act`.

    Raises:
        InvalidCheckpointError: it is not a MobileNet V1, or lacks a range.
        ValueError: its constants do not fit each other.
    """
    walk = _Walk(graph)
    pixels = source = walk.optional_levels() or _RELEASED_INPUT
    quantized: dict[str, QuantizedLayer] = {}
    activations = set()
    for layer in MobileNetV1Config().layers:  # but for their depth, those of any MobileNet V1
        operator = _DEPTHWISE if layer.groups > 1 else "Conv2D"
        quantized[layer.key], activation = walk.layer(operator, layer.stride, source)
        activations.add(activation)
        source = quantized[layer.key].output
    half_up = True
    if walk.goes_on_with(*_POOLINGS):
        half_up = walk.step(*_POOLINGS).op == "AvgPool"
    pooled = walk.optional_levels() or source
    if walk.goes_on_with("Conv2D"):
        quantized[CLASSIFIER], activation = walk.layer("Conv2D", 1, pooled)
        if activation != "linear":
            raise InvalidCheckpointError(f"its logits go through {activation}")
    if len(activations) > 1:
        raise InvalidCheckpointError(f"its activations are {sorted(activations)}")
    return Quantization(pixels, quantized, pooled, half_up), activations.pop()


def nudge(low: float, high: float, *, narrow: bool = False) -> QuantizationParameters:
    """Choose the levels of a range such that 0 is one of them, as TensorFlow's `Nudge` does.

    A narrow range leaves level 0 unused, as kernels do. Raises `InvalidCheckpointError` if the
    range has no levels.
    """
    step = (high - low) / (MAX_LEVEL - narrow)
    scale = float(np.float32(step))
    if not 0 < scale < math.inf:
        raise InvalidCheckpointError(f"{low} to {high} is not a range of levels")
    zero_point = math.floor(narrow - low / step + 0.5)
    return QuantizationParameters(scale, min(max(zero_point, int(narrow)), MAX_LEVEL))


class _Walk:
    """Walks a graph from its placeholder, one operation at a time."""

    def __init__(self, graph: Any) -> None:
        self._constants = Constants(graph)
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for source in node.input[:1]:
                self._readers[node_name(source)].append(node)
        placeholders = [node.name for node in graph.node if node.op == "Placeholder"]
        if len(placeholders) != 1:
            raise InvalidCheckpointError(f"it has {len(placeholders)} inputs")
        self._name = placeholders[0]  # of the current operation

    def goes_on_with(self, *operators: str) -> bool:
        """Tell whether the next operation is one of these; identities are skipped."""
        while len(self._readers[self._name]) == 1 and self._readers[self._name][0].op == "Identity":
            self._name = self._readers[self._name].pop().name
        return any(node.op in operators for node in self._readers[self._name])

    def step(self, *operators: str) -> Any:
        """Go to the next operation, which must be one of these."""
        if not self.goes_on_with(*operators):
            found = sorted(node.op for node in self._readers[self._name]) or "nothing"
            raise InvalidCheckpointError(f"{found} follows {self._name!r}, not {operators[0]}")
        node = next(node for node in self._readers[self._name] if node.op in operators)
        self._name = node.name
        return node

    def layer(
        self, operator: str, stride: int, source: QuantizationParameters
    ) -> tuple[QuantizedLayer, str]:
        """Step over a convolution on a map of `source`, up to its levels; also its activation."""
        kernel, scale = self._convolution(operator, stride)
        bias = self._constants.compute(self.step(*_ADDITIONS).input[1]).reshape(-1)
        if not np.isfinite(bias).all():
            raise InvalidCheckpointError("a bias is not finite")
        units = np.round(bias / (np.float64(source.scale) * scale.scale))
        limits = np.iinfo(np.int32)
        activation = "linear"
        if self.goes_on_with("Relu6", "Relu"):
            activation = str(self.step("Relu6", "Relu").op).lower()
        layer = QuantizedLayer(
            kernel,
            np.array([scale.scale], np.float32),
            scale.zero_point,
            np.clip(units, limits.min, limits.max).astype(np.int32),
            input=source,
            output=self._parameters(self.step(_FAKE_QUANT)),
        )
        return layer, activation

    def optional_levels(self) -> QuantizationParameters | None:
        """Step over a FakeQuant node, if there is one."""
        if not self.goes_on_with(_FAKE_QUANT):
            return None
        return self._parameters(self.step(_FAKE_QUANT))

    def _convolution(
        self, operator: str, stride: int
    ) -> tuple[NDArray[np.uint8], QuantizationParameters]:
        """Step over a convolution; its kernel's levels, (out, in / groups, height, width)."""
        node = self.step(operator)
        strides = list(node.attr["strides"].list.i)
        if strides != [1, stride, stride, 1]:
            raise InvalidCheckpointError(f"{node.name!r} has another stride")
        nodes = self._constants.nodes
        quantized = nodes.get(node_name(node.input[1]))
        for _ in range(_MAX_IDENTITIES):
            if quantized is not None and quantized.op == "Identity":
                quantized = nodes.get(node_name(quantized.input[0]))
        if quantized is None or quantized.op != _FAKE_QUANT:
            raise InvalidCheckpointError(f"the kernel of {node.name!r} has no range")
        kernel = self._constants.compute(quantized.input[0])
        if kernel.shape[:2] != (1, 1) and node.attr["padding"].s != b"SAME":
            raise InvalidCheckpointError(f"{node.name!r} pads in another way")
        order = (2, 3, 0, 1) if operator == _DEPTHWISE else (3, 2, 0, 1)
        parameters = self._parameters(quantized)
        narrow = quantized.attr["narrow_range"].b
        if not np.isfinite(kernel).all():
            raise InvalidCheckpointError(f"the kernel of {node.name!r} is not finite")
        with np.errstate(over="ignore"):  # what is beyond every level is clipped
            levels = np.floor(kernel / parameters.scale + 0.5)
        levels = np.clip(levels + parameters.zero_point, int(narrow), MAX_LEVEL)
        return np.ascontiguousarray(levels.transpose(order).astype(np.uint8)), parameters

    def _parameters(self, node: Any) -> QuantizationParameters:
        bits = node.attr["num_bits"].i if "num_bits" in node.attr else _BITS
        if bits != _BITS:
            raise InvalidCheckpointError(f"{node.name!r} has {bits} bits instead of {_BITS}")
        low, high = (self._constants.compute(name).item() for name in node.input[1:3])
        return nudge(low, high, narrow=node.attr["narrow_range"].b)
