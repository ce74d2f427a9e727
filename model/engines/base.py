"""The contract of an engine, which runs batches of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from model.network.config import END_POINTS, LOGITS, MIN_IMAGE_SIDE, POOLED, MobileNetV1Config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """The requested outputs of a batch, float32, with one row for each image.

    Attributes:
        arrays: by name; `logits` (n, classes), `pooled` (n, channels), and maps by their end
            points, (n, height, width, channels).
    """

    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def logits(self) -> NDArray[np.float32]:
        """The classification layer's output, (n, classes)."""
        return self.arrays[LOGITS]

    @property
    def pooled(self) -> NDArray[np.float32]:
        """The averaged last feature map, (n, channels)."""
        return self.arrays[POOLED]


def default_outputs(config: MobileNetV1Config) -> tuple[str, ...]:
    """The outputs unless others are named: `pooled`, and `logits` if the network classifies."""
    return (LOGITS, POOLED) if config.num_labels else (POOLED,)


def check_request(size: tuple[int, ...], outputs: Collection[str]) -> None:
    """Check the arguments of `Engine.run`: the images' height and width, and the outputs' names.

    Raises:
        ValueError: the images are too small, or there is no such output.
    """
    if min(size) < MIN_IMAGE_SIDE:
        raise ValueError(f"images must be at least {MIN_IMAGE_SIDE} pixels wide and high")
    if unknown := set(outputs) - {LOGITS, POOLED, *END_POINTS}:
        raise ValueError(f"unknown outputs: {sorted(unknown)}")


def deepest_layer(outputs: Collection[str]) -> str | None:
    """The end point after which nothing needs to be computed; None if the head is needed.

    Args:
        outputs: names as in `EngineOutput`, at least one.
    """
    if LOGITS in outputs or POOLED in outputs:
        return None
    return max(outputs, key=END_POINTS.index)


class Engine(Protocol):
    """Runs batches of one checkpoint; `run` may be called from several threads at once."""

    name: str
    """As in the settings: `onnx`, `torch`."""
    device: str
    """`cpu` or `cuda`."""
    streams: int
    """The number of batches that it can usefully run at once."""
    checkpoint: Checkpoint

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        """Compute one batch, no deeper than the outputs need.

        Args:
            pixels: (n, height, width, channels), uint8; sides of at least 32 pixels.
            outputs: names as in `EngineOutput`; empty means `default_outputs`.
            output_stride: see `MobileNetV1Config.layers_at`.
            alone: no other batch runs meanwhile, so that all threads may work on this one.

        Raises:
            MemoryError: the batch does not fit into memory.
            ValueError: the images are too small, or there is no such output.
        """
        ...
