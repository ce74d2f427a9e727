"""Writes a float checkpoint: the first nodes scale the pixels, BatchNorm is folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from model.engines.onnx.graph import PIXELS, Graph
from model.errors import UnsupportedModelError
from model.network.config import LOGITS, POOLED
from model.network.folding import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint
    from model.network.config import ConvLayer

ACTIVATIONS = {
    "gelu": "Gelu",
    "hardswish": "HardSwish",
    "leaky_relu": "LeakyRelu",
    "linear": "Identity",
    "mish": "Mish",
    "relu": "Relu",
    "relu6": "Clip",
    "sigmoid": "Sigmoid",
    "silu": "Mul",
    "swish": "Mul",
    "tanh": "Tanh",
}
"""The values of `hidden_act` that this engine knows, and the operators that compute them."""


class FloatGraph(Graph):
    """The network on real numbers.

    Raises:
        UnsupportedModelError: no operator is known for the checkpoint's `hidden_act`.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint.config)
        self._checkpoint = checkpoint
        if self._config.hidden_act not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"hidden_act {self._config.hidden_act!r} is not known to the onnx engine; "
                f"known are {sorted(ACTIVATIONS)}"
            )

    def _read_pixels(self) -> str:
        # Transposed as bytes, and with the constants along whole planes: along the last axis, ONNX
        # Runtime would work on spans of three numbers.
        constants = map(_along_planes, self._checkpoint.preprocessing.scale_and_offset())
        self._constants |= dict(zip(("scale", "offset"), constants, strict=True))
        self._add("Transpose", [PIXELS], "planes", perm=[0, 3, 1, 2])
        self._add("Cast", ["planes"], "float", to=TensorProto.FLOAT)
        self._add("Div", ["float", "scale"], "scaled")
        return self._add("Sub", ["scaled", "offset"], "input")

    def _layer(self, layer: ConvLayer, source: str) -> str:
        weights = [f"{layer.key}.weight", f"{layer.key}.bias"]
        self._constants |= dict(zip(weights, self._folded(layer), strict=True))
        attributes = self._convolution_attributes(layer)
        convolved = f"{layer.end_point}/convolved"
        self._add("Conv", [source, *weights], convolved, **attributes)
        return self._activate(convolved, f"{layer.end_point}/map")

    def _folded(self, layer: ConvLayer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel and bias with the layer's BatchNorm."""
        return fold(self._checkpoint.weights, layer, self._config.layer_norm_eps)

    def _activate(self, source: str, target: str) -> str:
        operator, sources = ACTIVATIONS[self._config.hidden_act], [source]
        if operator == "Clip":
            self._constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
            sources += ["zero", "six"]
        elif operator == "Mul":
            sources.append(self._add("Sigmoid", [source], f"{target}/gate"))
        return self._add(operator, sources, target)

    def _head(self, source: str, outputs: Sequence[str]) -> None:
        self._add("GlobalAveragePool", [source], "mean")
        self._add("Flatten", ["mean"], POOLED)
        if LOGITS in outputs:
            names = ["classifier.weight", "classifier.bias"]
            self._constants |= {name: self._checkpoint.weights[name] for name in names}
            self._add("Gemm", [POOLED, *names], LOGITS, transB=1)


def _along_planes(constant: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape a constant of each channel for (n, channels, height, width): () if all are equal."""
    if (constant == constant.flat[0]).all():
        return constant.flat[:1].reshape(())
    return constant.reshape(1, -1, 1, 1)
