"""Options of a classification and of an embedding, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from model.network.config import OUTPUT_STRIDES, POOLED
from model.network.features import Feature, Pooling, parse_layer
from model.network.scores import Activation

MAX_FILES: Final = 64
"""Images of one request."""
DEFAULT_TOP_K: Final = 5
MAX_TOP_K: Final = 1001
MIN_SIZE, MAX_SIZE = 32, 512
"""Bounds on the side of the network's input, in pixels."""

Dtype = Literal["float32", "float16"]


def parse_layers(text: str) -> tuple[str, ...]:
    """Parse layers by name or number, with commas; each is returned once.

    Raises:
        ValueError: there is no such layer.
    """
    return tuple(dict.fromkeys(map(parse_layer, text.split(","))))


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """Options of a classification.

    Attributes:
        top_k: how many classes to answer; None: `DEFAULT_TOP_K`, or all if the model has fewer.
        min_score: leave out classes that score less.
        size: side of the square that the network sees, in pixels; None: the checkpoint's own.
        model: name of a served model; None: the first.
        activation: turns logits into scores.
    """

    top_k: int | None = None
    min_score: float = 0.0
    size: int | None = None
    model: str | None = None
    activation: Activation = "softmax"


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """Options of an embedding; `size` and `model` as in `ClassifyOptions`.

    Attributes:
        layers: see `parse_layers`.
        pooling: of each layer's map.
        normalize: scale to unit length along the channels.
        output_stride: see `MobileNetV1Config.layers_at`.
        dtype: of a binary answer.
    """

    layers: tuple[str, ...] = (POOLED,)
    pooling: Pooling = "global"
    normalize: bool = False
    output_stride: int = OUTPUT_STRIDES[0]
    dtype: Dtype = "float32"
    size: int | None = None
    model: str | None = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features to extract, in the order asked for."""
        return tuple(Feature(layer, self.pooling) for layer in self.layers)

    @property
    def outputs(self) -> frozenset[str]:
        """The engine's outputs that they are made of."""
        return frozenset(feature.output for feature in self.features)
