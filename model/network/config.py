"""The hyper-parameters of a MobileNet V1, and the layers they describe.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
https://arxiv.org/abs/1704.04861. Names, defaults and rounding are those of `transformers`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from model.json_file import Document

MIN_IMAGE_SIDE = 32
"""Smallest input side in pixels: below it the last feature map would vanish."""

OUTPUT_STRIDES = (32, 16, 8)
"""Possible ratios of the input's side to the last map's; the first has no dilation."""

END_POINTS = ("Conv2d_0", *(f"Conv2d_{block}_pointwise" for block in range(1, 14)))
"""TF-Slim's names of the layers whose maps are features: the stem and the pointwise ones."""

LOGITS = "logits"
"""Name of the classification layer's output."""
CLASSIFIER = "classifier"
"""Key of the classification layer, among the keys of the convolutions."""
POOLED = "pooled"
"""Name of the last feature map, averaged over its height and width."""

_MAX_CLASSES = 100_000

_BLOCKS = (  # (out_channels at depth_multiplier 1, stride of the depthwise convolution)
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)

FULL_DEPTH = _BLOCKS[-1][0]
"""Channels of the last layer at a depth multiplier of 1."""


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution with its BatchNorm and activation.

    Attributes:
        end_point: TF-Slim's name, such as `Conv2d_3_depthwise`.
        key: the prefix of its weights in a checkpoint, such as `mobilenet_v1.layer.4`.
        groups: 1, or the number of channels for a depthwise convolution.
        rate: of dilation; other than 1 only at a stride of 1.
    """

    end_point: str
    key: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int = 1
    rate: int = 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernel: (out_channels, in_channels / groups, height, width)."""
        side = self.kernel_size
        return self.out_channels, self.in_channels // self.groups, side, side


class MobileNetV1Config(Document):
    """The network as `config.json` describes it."""

    model_type: Literal["mobilenet_v1"] = "mobilenet_v1"
    num_channels: Literal[3] = 3
    image_size: int | tuple[int, int] = 224
    depth_multiplier: float = Field(1.0, gt=0, le=8)
    min_depth: int = Field(8, ge=1, le=4096)
    hidden_act: str = "relu6"
    tf_padding: bool = True
    classifier_dropout_prob: float = Field(0.999, ge=0, le=1)
    initializer_range: float = Field(0.02, ge=0)
    layer_norm_eps: float = Field(0.001, gt=0, le=1)
    id2label: dict[int, str] = Field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})

    @model_validator(mode="before")
    @classmethod
    def _accept_num_labels(cls, values: Any) -> Any:
        """Name the classes LABEL_0 .. when only their number is given, as `transformers` does."""
        if isinstance(values, dict) and "num_labels" in values and values.get("id2label") is None:
            values = dict(values)
            count = values.pop("num_labels")
            if not isinstance(count, int) or not 0 <= count <= _MAX_CLASSES:
                raise ValueError(f"num_labels must be a whole number up to {_MAX_CLASSES}")
            values["id2label"] = {index: f"LABEL_{index}" for index in range(count)}
        return values

    @model_validator(mode="after")
    def _check_class_ids(self) -> Self:
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ValueError("id2label must name the classes 0, 1, 2, ... without a gap")
        return self

    @property
    def num_labels(self) -> int:
        """Number of classes; 0 means that there is no classification layer."""
        return len(self.id2label)

    @property
    def layers(self) -> tuple[ConvLayer, ...]:
        """The stem, then a depthwise and a pointwise convolution for each of the 13 blocks."""
        return self.layers_at(OUTPUT_STRIDES[0])

    def layers_at(self, output_stride: int) -> tuple[ConvLayer, ...]:
        """The layers, the last ones dilated so that the last map is larger.

        TF-Slim's rule (`mobilenet_v1_base`): once the product of strides is `output_stride`, one of
        `OUTPUT_STRIDES`, each further stride is a rate of dilation for all layers that follow.
        """
        channels, total_stride, rate = self._depth(32), 2, 1
        layers = [
            ConvLayer("Conv2d_0", "mobilenet_v1.conv_stem", self.num_channels, channels, 3, 2)
        ]
        for block, (depth, block_stride) in enumerate(_BLOCKS):
            stride = 1 if total_stride == output_stride else block_stride
            depthwise = ConvLayer(
                f"Conv2d_{block + 1}_depthwise",
                f"mobilenet_v1.layer.{2 * block}",
                channels,
                channels,
                kernel_size=3,
                stride=stride,
                groups=channels,
                rate=rate,
            )
            pointwise = ConvLayer(
                f"Conv2d_{block + 1}_pointwise",
                f"mobilenet_v1.layer.{2 * block + 1}",
                channels,
                self._depth(depth),
                kernel_size=1,
                stride=1,
            )
            layers += [depthwise, pointwise]
            channels = pointwise.out_channels
            total_stride *= stride
            rate *= block_stride // stride
        return tuple(layers)

    @property
    def classifier(self) -> ConvLayer:
        """The classification layer as a 1x1 convolution of the pooled features."""
        return ConvLayer(LOGITS, CLASSIFIER, self.num_features, self.num_labels, 1, 1)

    def maps(
        self, height: int, width: int, output_stride: int = 32
    ) -> Iterator[tuple[ConvLayer, int, int]]:
        """Each layer with the height and width of its map, for an image of that size in pixels."""
        for layer in self.layers_at(output_stride):
            height, width = -(-height // layer.stride), -(-width // layer.stride)
            yield layer, height, width

    def multiply_adds(
        self, height: int, width: int, output_stride: int = 32, deepest: str | None = None
    ) -> int:
        """Multiply-adds of one image, of kernels only, as the papers count them.

        They stop after the end point `deepest`; None means all layers and the head. The image's
        size is in pixels.
        """
        total = 0
        for layer, rows, columns in self.maps(height, width, output_stride):
            total += rows * columns * math.prod(layer.weight_shape)
            if layer.end_point == deepest:
                return total
        return total + self.num_features * self.num_labels

    @property
    def num_features(self) -> int:
        """Channels of the last layer, the length of a pooled embedding."""
        return self._depth(FULL_DEPTH)

    def _depth(self, channels: int) -> int:
        return max(int(channels * self.depth_multiplier), self.min_depth)

    def save(self, path: Path) -> None:
        """Write a `config.json` that `transformers` reads too."""
        architecture = "ForImageClassification" if self.num_labels else "Model"
        document = self.model_dump() | {
            "architectures": [f"MobileNetV1{architecture}"],
            "label2id": {label: class_id for class_id, label in self.id2label.items()},
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
