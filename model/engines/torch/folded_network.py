"""A float checkpoint in PyTorch as it runs fastest without a compiler: folded, channels last.

What it computes is `model.engines.torch.architecture`, which stays the readable reference.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.engines.torch import onednn
from model.engines.torch.architecture import ACTIVATIONS, same_padding
from model.errors import UnsupportedModelError
from model.network.config import LOGITS, MIN_IMAGE_SIDE, POOLED, ConvLayer
from model.network.folding import fold

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

_MAX_LAYOUTS = 4
"""Packed copies of the kernels that are kept; of the default network each takes 17 MB."""

_Layout = dict[str, Tensor]
"""Packed kernels by the layer's key, filled as layers run."""


class FoldedNetwork(nn.Module):
    """Stem and 13 depthwise separable blocks, pooled, then a classifier if there is one.

    Args:
        checkpoint: float32 weights.

    Raises:
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._config = config = checkpoint.config
        if config.hidden_act not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"hidden_act {config.hidden_act!r} is not known; known are {sorted(ACTIVATIONS)}"
            )
        self._layers = nn.ModuleList(
            FoldedConv(*fold(checkpoint, layer), config.hidden_act, config.tf_padding)
            for layer in config.layers
        )
        if config.num_labels:
            weight, bias = (checkpoint.weights[f"classifier.{part}"] for part in ("weight", "bias"))
            # As a 1x1 convolution, whose sums do not depend on the batch as those of `linear` do.
            self._classifier = FoldedConv(weight[..., None, None], bias, "linear")
        scale, offset = map(torch.from_numpy, checkpoint.preprocessing.scale_and_offset())
        self._scale = nn.Buffer(scale)
        self._offset = nn.Buffer(offset)
        self._layouts = lru_cache(_MAX_LAYOUTS)(_create_layout)

    def forward(
        self, pixels: Tensor, output_stride: int = 32, deepest: str | None = None
    ) -> dict[str, Tensor]:
        """Float32 numbers of every end point, of `pooled`, and of `logits` if it classifies.

        Args:
            pixels: (n, height, width, channels), uint8; sides of at least 32 pixels.
            output_stride: see `MobileNetV1Config.layers_at`.
            deepest: end point to stop after; None means all.

        Returns:
            Maps as (n, channels, height, width), the others as (n, channels).

        Raises:
            ValueError: the images are too small.
        """
        if min(pixels.shape[1:3]) < MIN_IMAGE_SIDE:
            raise ValueError(f"images must be at least {MIN_IMAGE_SIDE} pixels wide and high")
        layout = self._layout(pixels, output_stride)
        features = (pixels / self._scale - self._offset).permute(0, 3, 1, 2)
        arrays = {}
        for layer, module in zip(self._config.layers_at(output_stride), self._layers, strict=True):
            arrays[layer.end_point] = features = module(features, layer, layout)
            if layer.end_point == deepest:
                return arrays
        pooled = features.mean(dim=(2, 3), keepdim=True)
        arrays[POOLED] = pooled.flatten(1)
        if self._config.num_labels:
            width, classes = self._config.num_features, self._config.num_labels
            head = ConvLayer(LOGITS, "classifier", width, classes, kernel_size=1, stride=1)
            arrays[LOGITS] = self._classifier(pooled, head, layout).flatten(1)
        return arrays

    def _layout(self, pixels: Tensor, output_stride: int) -> _Layout | None:
        """Packed kernels for such images, or None where it is better to pack for each run.

        The best layout depends on the images' size and on the threads, with several threads on the
        batch too; a run with another one is several times slower than one that packs for itself.
        """
        threads = torch.get_num_threads()
        if threads > 1 and len(pixels) > 1:
            return None
        return self._layouts(threads, *pixels.shape[1:3], output_stride)


class FoldedConv(nn.Module):
    """Convolution and activation: (n, in, h, w) -> (n, out, h / stride, w / stride)."""

    def __init__(
        self,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        hidden_act: str,
        tf_padding: bool = True,  # noqa: FBT001, FBT002  # a checkpoint's own word
    ) -> None:
        super().__init__()
        self._tf_padding = tf_padding
        self._hidden_act = hidden_act
        self._activation = ACTIVATIONS[hidden_act]()
        self._fuses = hidden_act in onednn.FUSED_ACTIVATIONS and onednn.is_available()
        self.kernel = nn.Buffer(torch.from_numpy(kernel).to(memory_format=torch.channels_last))
        self.bias = nn.Buffer(torch.from_numpy(bias))

    def forward(self, features: Tensor, layer: ConvLayer, layout: _Layout | None = None) -> Tensor:
        """Run one layer, with its kernel as the layout has it."""
        features, geometry = self._pad(features, layer)
        if self._fuses and features.device.type == "cpu":
            kernel = self._packed(features, layer, geometry, layout)
            return onednn.convolve(features, kernel, self.bias, geometry, self._hidden_act)
        padding, stride, dilation, groups = geometry
        features = functional.conv2d(
            features, self.kernel, self.bias, stride, padding, dilation, groups
        )
        return self._activation(features)  # type: ignore[no-any-return]  # modules return Any

    def _packed(
        self,
        features: Tensor,
        layer: ConvLayer,
        geometry: onednn.Geometry,
        layout: _Layout | None,
    ) -> Tensor:
        if layout is None:
            return self.kernel
        if layer.key not in layout:
            layout[layer.key] = onednn.pack(self.kernel, geometry, features.shape)
        return layout[layer.key]

    def _pad(self, features: Tensor, layer: ConvLayer) -> tuple[Tensor, onednn.Geometry]:
        """Leave even padding to the convolution, and do the odd one, which it does not know."""
        if self._tf_padding:
            geometry = layer.kernel_size, layer.stride, layer.rate
            top, bottom = same_padding(features.shape[-2], *geometry)
            left, right = same_padding(features.shape[-1], *geometry)
        else:
            top = bottom = left = right = layer.kernel_size // 2 * layer.rate
        padding = top, left
        if padding != (bottom, right):
            features, padding = functional.pad(features, (left, right, top, bottom)), (0, 0)
        stride, rate = (layer.stride,) * 2, (layer.rate,) * 2
        return features, onednn.Geometry(padding, stride, rate, layer.groups)


def _create_layout(*_: int) -> _Layout:
    return {}
