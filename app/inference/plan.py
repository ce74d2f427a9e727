"""The computation that a request asks for each of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.engines.base import Engine, deepest_layer
from model.images.preprocessor_config import Preprocessing
from model.network.config import OUTPUT_STRIDES

Finish = Callable[[Mapping[str, NDArray[np.float32]]], Any]


def _leave(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Plan:
    """One computation of one image.

    Attributes:
        outputs: names of the engine's outputs.
        side: of the square input in pixels; None: the model's own size.
        output_stride: see `MobileNetV1Config.layers_at`.
        finish: makes something of an image's outputs in the thread that computed them, which spares
            the event loop; plans that differ in nothing else are equal.
    """

    engine: Engine
    outputs: frozenset[str]
    side: int | None = None
    output_stride: int = OUTPUT_STRIDES[0]
    finish: Finish = field(default=_leave, compare=False)

    @property
    def preprocessing(self) -> Preprocessing:
        """The checkpoint's preprocessing, to an input of `side`."""
        return self.engine.checkpoint.preprocessing.with_side(self.side)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.preprocessing.input_size

    @property
    def deepest(self) -> str | None:
        """The deepest layer that is needed; see `deepest_layer`."""
        return deepest_layer(self.outputs)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that one image takes."""
        return self.engine.checkpoint.config.multiply_adds(
            *self.input_size, self.output_stride, self.deepest
        )
