"""The computation that a request asks for each of its images."""

from __future__ import annotations

from dataclasses import dataclass

from model.engines.base import Engine, deepest_layer
from model.images.preprocessor_config import Preprocessing
from model.network.config import OUTPUT_STRIDES


@dataclass(frozen=True, slots=True)
class Plan:
    """One computation of one image.

    Attributes:
        outputs: names of the engine's outputs.
        side: of the square input in pixels; None: the model's own size.
        output_stride: see `MobileNetV1Config.layers_at`.
    """

    engine: Engine
    outputs: frozenset[str]
    side: int | None = None
    output_stride: int = OUTPUT_STRIDES[0]

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
