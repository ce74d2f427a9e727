"""Turns a layer's map into an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from model.network.config import END_POINTS, POOLED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.network.config import MobileNetV1Config

Pooling = Literal["global", "avg7", "none"]

_KERNEL, _STRIDE = 7, 2


@dataclass(frozen=True, slots=True)
class Feature:
    """One layer's features of an image.

    Attributes:
        layer: `pooled`, or one of `END_POINTS`; `pooled` is another name of the last one.
        pooling: `global`: the mean over height and width. `avg7`: TF-Slim's pooling before the
            logits, 7x7, stride 2, VALID, the kernel shrunk to the map where that is smaller
            (`_reduced_kernel_size_for_small_input`). `none`: the map itself.
    """

    layer: str
    pooling: Pooling = "global"

    @property
    def output(self) -> str:
        """The engine's output that it is made from."""
        is_last = self._end_point == END_POINTS[-1]  # whose average the graph computes itself
        return POOLED if is_last and self.pooling == "global" else self._end_point

    @property
    def _end_point(self) -> str:
        return END_POINTS[-1] if self.layer == POOLED else self.layer

    def shape(
        self, config: MobileNetV1Config, height: int, width: int, output_stride: int
    ) -> tuple[int, ...]:
        """(channels,), or (height, width, channels), for an image of that size in pixels."""
        maps = config.maps(height, width, output_stride)
        layer, rows, columns = next(one for one in maps if one[0].end_point == self._end_point)
        if self.pooling == "none":
            return rows, columns, layer.out_channels
        if self.pooling == "avg7":
            rows, columns = (_pooled_side(side) for side in (rows, columns))
            if (rows, columns) != (1, 1):
                return rows, columns, layer.out_channels
        return (layer.out_channels,)

    def extract(self, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Extract it from one image's engine outputs, by name; of `shape`, float32."""
        array = arrays[self.output]
        if self.output == POOLED:
            return array
        if self.pooling == "none":
            return np.ascontiguousarray(array)
        if self.pooling == "global":
            mean: NDArray[np.float32] = array.mean(axis=(0, 1))
            return mean
        return _average_7x7(array)


def normalize(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to unit length along the last axis; a zero vector stays zero."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = np.zeros_like(features)
    np.divide(features, length, out=unit, where=length > 0)
    return unit


def parse_layer(text: str) -> str:
    """The name of a layer given by name or by number: `5` is `Conv2d_5_pointwise`.

    Raises:
        ValueError: there is no such layer.
    """
    if text == POOLED or text in END_POINTS:
        return text
    if text in map(str, range(len(END_POINTS))):
        return END_POINTS[int(text)]
    raise ValueError(f"a layer is `{POOLED}`, `0` to `{len(END_POINTS) - 1}`, or an end point")


def _pooled_side(side: int) -> int:
    return (side - min(side, _KERNEL)) // _STRIDE + 1


def _average_7x7(feature_map: NDArray[np.float32]) -> NDArray[np.float32]:
    kernel = tuple(min(side, _KERNEL) for side in feature_map.shape[:2])
    windows = sliding_window_view(feature_map, kernel, axis=(0, 1))[::_STRIDE, ::_STRIDE]
    means: NDArray[np.float32] = windows.mean(axis=(-2, -1))
    return means[0, 0] if means.shape[:2] == (1, 1) else means
