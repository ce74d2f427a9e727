"""oneDNN's convolution with its activation fused in, as PyTorch's own compiler calls it.

The operators are not public: they are named here and nowhere else, and where a build of PyTorch
lacks them the plain convolution takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

FUSED_ACTIVATIONS: dict[str, tuple[str, list[float]]] = {
    "linear": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}
"""The values of `hidden_act` that are computed within the convolution."""


class Geometry(NamedTuple):
    """How a kernel goes over a map; height, then width."""

    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def is_available() -> bool:
    """Whether this build of PyTorch has the operators."""
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]  # torch's own
        hasattr(torch.ops.mkldnn, name)
        for name in ("_convolution_pointwise", "_reorder_convolution_weight")
    )


def pack(kernel: Tensor, geometry: Geometry, input_shape: torch.Size) -> Tensor:
    """The kernel in the layout that oneDNN likes best for this input and this thread's threads."""
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, *geometry, input_shape)  # noqa: SLF001  # see the module
    return packed


def convolve(
    features: Tensor, kernel: Tensor, bias: Tensor, geometry: Geometry, hidden_act: str
) -> Tensor:
    """Convolution and activation: float32, (n, in, h, w) -> (n, out, h', w').

    Args:
        features: channels last in memory.
        kernel: packed or not.
        bias: of shape (out,).
        geometry: see `Geometry`.
        hidden_act: one of `FUSED_ACTIVATIONS`.
    """
    convolved: Tensor = torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001  # see the module
        features, kernel, bias, *geometry, *FUSED_ACTIVATIONS[hidden_act], ""
    )
    return convolved
