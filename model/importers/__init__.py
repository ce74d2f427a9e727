"""Other people's files -> a checkpoint directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.errors import InvalidCheckpointError
from model.importers.frozen_graph import import_frozen_graph
from model.importers.tflite import import_tflite
from model.importers.tflite_graph import IDENTIFIER

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["import_checkpoint"]


def import_checkpoint(source: Path, directory: Path, *, dequantize: bool = False) -> None:
    """Convert a released checkpoint to a directory that `load_checkpoint` reads.

    Args:
        source: a frozen TensorFlow graph (`.pb`), or a TensorFlow Lite file (`.tflite`).
        directory: where to write; made if it is not there.
        dequantize: of a quantized checkpoint, write float weights alone.

    Raises:
        InvalidCheckpointError: the file is not a MobileNet V1.
        ModelError: the `convert` extra is not installed.
    """
    if not source.is_file():
        raise InvalidCheckpointError(f"{source}: is not a file")
    with source.open("rb") as file:
        start = file.read(8)
    if start[4:] == IDENTIFIER:
        import_tflite(source, directory, dequantize=dequantize)
    else:
        import_frozen_graph(source, directory, dequantize=dequantize)
