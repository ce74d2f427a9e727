"""Other people's files -> a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.checkpoints.checkpoint import Checkpoint, save_checkpoint
from model.errors import InvalidCheckpointError
from model.sources.archive import GZIP_MAGIC, read_model
from model.sources.frozen_graph.checkpoint import read_frozen_graph
from model.sources.tflite.chain import IDENTIFIER
from model.sources.tflite.checkpoint import read_tflite

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_image_size", "import_checkpoint", "read_released"]

_MAX_FILE_BYTES = 256 << 20
_OTHERS = {  # first bytes of what is often taken for one of ours
    b"PK\x03\x04": "a zip archive or a PyTorch file",
    b"\x89HDF": "an HDF5 (Keras) file",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"<": "an HTML or XML page",
    b"{": "a JSON file",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file",
}


def read_released(
    source: Path, *, image_size: int | None = None, dequantize: bool = False
) -> Checkpoint:
    """Read a released checkpoint; nothing is written anywhere.

    Args:
        source: a frozen TensorFlow graph (`.pb`), a TensorFlow Lite file (`.tflite`), or an archive
            (`.tgz`) with one of them; its content decides which, not its name.
        image_size: side of the input in pixels, where the file does not tell it; before its name.
        dequantize: of a quantized checkpoint, keep float weights alone.

    Returns:
        A checkpoint called as the file, with the sha256 of what was read as its digest.

    Raises:
        InvalidCheckpointError: the file is not a MobileNet V1.
        ModelError: the `convert` extra is not installed.
    """
    data = _read(source)
    if data.startswith(GZIP_MAGIC):
        member = read_model(source, data)
        source, data = source / member.name, member.data
    if data[4:8] == IDENTIFIER:
        checkpoint = read_tflite(source, data, dequantize=dequantize)
        check_image_size(str(source), checkpoint, image_size)
        return checkpoint
    for magic, what in _OTHERS.items():
        if data.startswith(magic):
            raise InvalidCheckpointError(f"{source}: is {what}")
    return read_frozen_graph(source, data, image_size=image_size, dequantize=dequantize)


def check_image_size(source: str, checkpoint: Checkpoint, image_size: int | None) -> None:
    """See that a size given for a source that tells its own is the same.

    Raises:
        InvalidCheckpointError: it is another.
    """
    told = checkpoint.config.image_size
    if image_size not in (None, told):
        raise InvalidCheckpointError(f"{source}: tells its image size, {told}, not {image_size}")


def import_checkpoint(
    source: Path, directory: Path, *, image_size: int | None = None, dequantize: bool = False
) -> None:
    """Convert a released checkpoint to a directory that `load_checkpoint` reads.

    Args:
        source: see `read_released`.
        directory: where to write; made if it is not there. Nothing is written before all is read.
        image_size: see `read_released`.
        dequantize: see `read_released`.

    Raises:
        InvalidCheckpointError: see `read_released`.
        ModelError: see `read_released`.
    """
    checkpoint = read_released(source, image_size=image_size, dequantize=dequantize)
    save_checkpoint(
        directory,
        checkpoint.config,
        checkpoint.preprocessing,
        checkpoint.weights,
        checkpoint.quantization,
    )


def _read(source: Path) -> bytes:
    if not source.is_file():
        raise InvalidCheckpointError(f"{source}: is not a file")
    try:
        with source.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidCheckpointError(f"{source}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidCheckpointError(f"{source}: is larger than {_MAX_FILE_BYTES >> 20} MiB")
    return data
