"""The constants of a TensorFlow graph, and what is computed from nothing but them.

BatchNorm's folding is left in a frozen graph as a few operations on constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import InvalidCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
_MAX_DEPTH = 20  # of operations on operations: a damaged graph can have a circle
_MAX_VALUES = 1 << 24


def node_name(source: str) -> str:
    """The name of the node whose first output this is."""
    return source.removesuffix(":0")


@dataclass
class Constants:
    """Values of nodes, each computed once.

    Attributes:
        nodes: of the graph, by name.
        read: gives a `Const` node's value by its name.
    """

    nodes: Mapping[str, Any]
    read: Callable[[str], NDArray[np.float32]]
    _values: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def compute(self, source: str, depth: int = 0) -> NDArray[np.float32]:
        """The value of a node; it need not be finite.

        Raises:
            InvalidCheckpointError: it is not a constant.
            ValueError: its operands do not fit each other.
        """
        name = node_name(source)
        if name not in self._values:
            node = self.nodes.get(name)
            if node is None or depth > _MAX_DEPTH:
                raise InvalidCheckpointError(f"{name} is not a constant")
            if node.op == "Const":
                self._values[name] = self.read(name)
            else:
                arity = 2 if node.op in _ARITHMETIC else 1
                operands = [self.compute(given, depth + 1) for given in node.input[:arity]]
                self._values[name] = _compute(node, operands)
        return self._values[name]


def _compute(node: Any, operands: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    if math.prod(shape) > _MAX_VALUES:
        raise InvalidCheckpointError(f"{node.name} is too large")
    with np.errstate(all="ignore"):
        if node.op in _ARITHMETIC:
            return np.asarray(_ARITHMETIC[node.op](*operands), np.float32)
        if node.op == "Rsqrt":
            return np.asarray(1 / np.sqrt(operands[0]), np.float32)
    if node.op == "Identity":
        return operands[0]
    if node.op == "Reshape":  # to (channels, 1), for a depthwise kernel
        return operands[0].reshape(-1, 1)
    raise InvalidCheckpointError(f"{node.name} ({node.op}) is not a constant")
