"""Reads released files of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.checkpoints.checkpoint import check_input_size, check_weights
from model.errors import InvalidCheckpointError, named_in_errors
from model.sources.archive import GZIP_MAGIC, read_model
from model.sources.frozen_graph.checkpoint import read_frozen_graph
from model.sources.tflite.chain import IDENTIFIER
from model.sources.tflite.checkpoint import read_tflite

if TYPE_CHECKING:
    from pathlib import Path

    from model.checkpoints.checkpoint import Checkpoint

_MAX_FILE_BYTES = 256 << 20
_OTHERS = {  # first bytes of files that are often taken for a checkpoint
    b"PK\x03\x04": "a zip archive or a PyTorch file",
    b"\x89HDF": "an HDF5 (Keras) file",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"<": "an HTML or XML page",
    b"{": "a JSON file",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file",
}


def read_released(source: Path, *, image_size: int | None = None) -> Checkpoint:
    """Read a frozen TensorFlow graph, a TensorFlow Lite file, or an archive with one of them.

    The content decides which it is, not its name. The digest is the sha256 of what was read.

    Args:
        source: the file, read in memory.
        image_size: side of the input in pixels, if the file does not tell it; goes before its name.

    Raises:
        InvalidCheckpointError: the file is not a MobileNet V1.
        ModelError: the `convert` extra is not installed.
    """
    with named_in_errors(source):
        data = _read(source)
        if data.startswith(GZIP_MAGIC):
            name, data = read_model(data)
            source /= name
    with named_in_errors(source):
        if data[4:8] == IDENTIFIER:
            checkpoint = read_tflite(source, data)
        else:
            for magic, what in _OTHERS.items():
                if data.startswith(magic):
                    raise InvalidCheckpointError(f"is {what}")
            checkpoint = read_frozen_graph(source, data, image_size=image_size)
        check_input_size(checkpoint.preprocessing)
        check_weights(checkpoint.weights, checkpoint.config)
    return checkpoint


def _read(source: Path) -> bytes:
    with source.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidCheckpointError(f"is larger than {_MAX_FILE_BYTES >> 20} MiB")
    return data
