"""What the service answers of one image, before a protocol shapes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.labels import Label


@dataclass(frozen=True, slots=True)
class Stages:
    """Where an image's time went, in seconds.

    Attributes:
        decode_s: in a decode thread, from bytes to pixels.
        queue_s: waiting, for a decode thread and for a batch.
        inference_s: in its batch.
    """

    decode_s: float
    queue_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the engine says of one image: its outputs by name; see `BatchRow.arrays`."""

    arrays: Mapping[str, NDArray[np.float32]]
    stages: Stages
    batch_size: int


@dataclass(frozen=True, slots=True)
class Classification:
    """The best classes of one image with their scores, best first."""

    model: str
    predictions: Sequence[tuple[Label, float]]
    stages: Stages
    batch_size: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """One image's features by layer, float32, in the order asked for; shapes as `Feature.shape`."""

    model: str
    layers: Mapping[str, NDArray[np.float32]]
    stages: Stages
    batch_size: int
