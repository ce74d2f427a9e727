"""The constants of a TensorFlow graph, and what is computed from nothing but them.

Folded BatchNorm is left in a frozen graph as a few operations on constants.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import InvalidCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
_MAX_DEPTH = 20  # of nested operations: a damaged graph can have a cycle
_MAX_VALUES = 1 << 24
_DT_FLOAT = 1


class Constants:
    """Values of the nodes of a GraphDef, each computed once."""

    def __init__(self, graph: Any) -> None:
        self.nodes = {node.name: node for node in graph.node}
        self._computed: dict[str, NDArray[np.float32]] = {}

    def has(self, name: str) -> bool:
        """Tell whether there is a `Const` node of that name."""
        return name in self.nodes and self.nodes[name].op == "Const"

    def read(self, name: str) -> NDArray[np.float32]:
        """A float32 constant, in TensorFlow's own layout.

        Raises:
            InvalidCheckpointError: it is missing, damaged or not of floats.
            ValueError: its values do not fill its shape.
        """
        if not self.has(name):
            raise InvalidCheckpointError(f"is not a MobileNet V1, or is cut: no {name}")
        tensor = self.nodes[name].attr["value"].tensor
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.dtype != _DT_FLOAT or not 0 <= math.prod(shape) <= _MAX_VALUES:
            raise InvalidCheckpointError(f"{name!r} is not of floats, or is too large")
        values = (
            np.frombuffer(tensor.tensor_content, "<f4")
            if tensor.tensor_content
            else np.asarray(tensor.float_val, np.float32)
        )
        if values.size == 1:  # a constant whose values are all the same is stored once
            return np.full(shape, values[0], np.float32)
        if values.size != math.prod(shape):
            raise InvalidCheckpointError(f"{name!r} is damaged")
        return values.reshape(shape)

    def compute(self, source: str, depth: int = 0) -> NDArray[np.float32]:
        """The value of a node; it need not be finite.

        Raises:
            InvalidCheckpointError: it is not a constant.
            ValueError: its operands do not fit each other.
        """
        name = node_name(source)
        if name not in self._computed:
            node = self.nodes.get(name)
            if node is None or depth > _MAX_DEPTH:
                raise InvalidCheckpointError(f"{name!r} is not a constant")
            if node.op == "Const":
                self._computed[name] = self.read(name)
            else:
                arity = 2 if node.op in _ARITHMETIC else 1
                operands = [self.compute(given, depth + 1) for given in node.input[:arity]]
                self._computed[name] = _compute(node, operands)
        return self._computed[name]


def node_name(source: str) -> str:
    """The name of the node whose first output this is."""
    return source.removesuffix(":0")


def _compute(node: Any, operands: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    if math.prod(shape) > _MAX_VALUES:
        raise InvalidCheckpointError(f"{node.name!r} is too large")
    with np.errstate(all="ignore"):
        if node.op in _ARITHMETIC:
            return np.asarray(_ARITHMETIC[node.op](*operands), np.float32)
        if node.op == "Rsqrt":
            return np.asarray(1 / np.sqrt(operands[0]), np.float32)
    if node.op == "Identity":
        return operands[0]
    if node.op == "Reshape":  # to (channels, 1), for a depthwise kernel
        return operands[0].reshape(-1, 1)
    raise InvalidCheckpointError(f"{node.name!r} ({node.op!r}) is not a constant")
