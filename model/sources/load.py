"""Loads a model from wherever it is: a directory, a released file, or the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePath

from model.checkpoints.checkpoint import (
    DEFAULT_DIRECTORY,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from model.errors import InvalidCheckpointError
from model.sources.hub import download_snapshot
from model.sources.released import read_released

_HUB_ID = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_RELEASED = (".tar.gz", ".tgz", ".pb", ".tflite")


def load_model(
    source: str, name: str | None = None, *, image_size: int | None = None
) -> Checkpoint:
    """Load a checkpoint; nothing is left behind but the hub's own cache.

    Args:
        source: a directory in Hugging Face's layout, the name of a packaged one, a file that
            `read_released` reads, or a Hugging Face id: `owner/name` or `owner/name@revision`.
            What exists on disk goes first.
        name: of the checkpoint; None means `default_name`.
        image_size: side of the input in pixels, for a released file that does not tell it.

    Raises:
        InvalidCheckpointError: there is no such checkpoint, it is not a sound MobileNet V1, or it
            declares another image size.
        ModelError: an extra is not installed.
    """
    checkpoint = _load(source, image_size)
    declared = checkpoint.config.image_size
    if image_size not in (None, declared):
        raise InvalidCheckpointError(
            f"{source}: declares input size {declared}, but --image-size is {image_size}"
        )
    return replace(checkpoint, name=name or default_name(source))


def convert_model(
    source: str, directory: Path, *, image_size: int | None = None, dequantize: bool = False
) -> None:
    """Load a model as `load_model` does, and write a directory that `transformers` reads too.

    The directory is made once the source is read. With `dequantize`, only the float weights of a
    quantized checkpoint are written.
    """
    checkpoint = load_model(source, image_size=image_size)
    save_checkpoint(
        directory,
        checkpoint.config,
        checkpoint.preprocessing,
        checkpoint.weights,
        None if dequantize else checkpoint.quantization,
    )


def default_name(source: str) -> str:
    """Name a model after its directory, its file without the suffix, or its id on the hub."""
    path = Path(source)
    name = path.resolve().name if path.exists() else PurePath(source.partition("@")[0]).name
    for suffix in _RELEASED:
        name = name.removesuffix(suffix)
    return name


def _load(source: str, image_size: int | None) -> Checkpoint:
    path, packaged = Path(source), DEFAULT_DIRECTORY.parent / source
    if path.is_file():
        return read_released(path, image_size=image_size)
    if path.is_dir():
        return load_checkpoint(path)
    if packaged.is_dir():
        return load_checkpoint(packaged)
    if match := _HUB_ID.fullmatch(source):
        return load_checkpoint(download_snapshot(**match.groupdict()))
    raise InvalidCheckpointError(
        f"{source}: is no directory, no file, and no Hugging Face id (owner/name@revision)"
    )
