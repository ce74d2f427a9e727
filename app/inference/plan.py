"""What a request computes of each of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.engines.base import Engine, deepest_layer
from model.network.config import OUTPUT_STRIDES

Image = bytes | NDArray[np.uint8]
"""A file's bytes, or the pixels of an engine's own size, (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One computation of one image.

    Attributes:
        outputs: of the engine, by name.
        side: of the pixels; None is the model's own size.
        output_stride: see `MobileNetV1Config.layers_at`.
    """

    engine: Engine
    outputs: frozenset[str]
    side: int | None
    output_stride: int = OUTPUT_STRIDES[0]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        own_size = self.engine.checkpoint.preprocessing.input_size
        return own_size if self.side is None else (self.side, self.side)

    @property
    def deepest(self) -> str | None:
        """The deepest layer that it needs; see `deepest_layer`."""
        return deepest_layer(self.outputs)

    @property
    def multiply_adds(self) -> int:
        """What the engine computes of one image."""
        return self.engine.checkpoint.config.multiply_adds(
            *self.input_size, self.output_stride, self.deepest
        )
