"""What an engine is: it runs one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from model.checkpoint import Checkpoint

POOLED = "pooled"
"""Name of the globally averaged last feature map among an engine's features."""


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """One row an image.

    Attributes:
        logits: (n, classes), float32.
        features: by name; `pooled` is (n, channels), float32.
    """

    logits: NDArray[np.float32]
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class Engine(Protocol):
    """Runs batches of one checkpoint; `run` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The engine's name, as in the settings: `onnx`, `torch`."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        ...

    @property
    def streams(self) -> int:
        """How many batches it can usefully run at once."""
        ...

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights that it runs."""
        ...

    def run(self, pixels: NDArray[np.uint8], *, alone: bool = True) -> EngineOutput:
        """Compute one batch.

        Args:
            pixels: (n, height, width, channels), uint8; sides of at least 32 pixels.
            alone: no other batch runs meanwhile, so that all threads may work on this one.

        Raises:
            MemoryError: the batch does not fit into memory.
        """
        ...
