"""Where a model comes from: a directory, a file that is imported, or the Hugging Face hub."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path, PurePath

from model.checkpoints.checkpoint import (
    DEFAULT_DIRECTORY,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from model.errors import InvalidCheckpointError
from model.sources.hub import download_snapshot, list_files
from model.sources.released import check_image_size, import_checkpoint, read_released

_HUB_ID = re.compile(r"(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_IMPORTED = (".tar.gz", ".tgz", ".pb", ".tflite")
_WEIGHTS, _PICKLES = "model.safetensors", {"pytorch_model.bin", "pytorch_model.bin.index.json"}


def load_model(source: str, name: str | None = None) -> Checkpoint:
    """Load a checkpoint from wherever it is; nothing is left behind but the hub's own cache.

    Args:
        source: a directory in Hugging Face's layout, the name of a packaged one, a file that
            `read_released` reads, or a Hugging Face id: `owner/name` or `owner/name@revision`.
            What exists on disk goes first.
        name: what to call it; see `default_name` if None.

    Raises:
        InvalidCheckpointError: there is no such checkpoint, or it is not a sound MobileNet V1.
        ModelError: an extra is not installed.
    """
    name = name or default_name(source)
    path = Path(source)
    if path.is_file():
        return replace(read_released(path), name=name)
    if path.is_dir():
        _refuse_pickle(source, path, {file.name for file in path.iterdir()})
        return load_checkpoint(path, name)
    packaged = DEFAULT_DIRECTORY.parent / source
    if packaged.is_dir():
        return load_checkpoint(packaged, name)
    if match := _HUB_ID.fullmatch(source):
        return load_checkpoint(_download(source, **match.groupdict()), name)
    raise InvalidCheckpointError(
        f"{source}: is no directory, no file, and no Hugging Face id (owner/name@revision)"
    )


def convert_model(
    source: str, directory: Path, *, image_size: int | None = None, dequantize: bool = False
) -> None:
    """Write a checkpoint from wherever it is as a directory that `transformers` reads too.

    Args:
        source: see `load_model`.
        directory: where to write; made if it is not there.
        image_size: see `read_released`.
        dequantize: see `read_released`.

    Raises:
        InvalidCheckpointError: see `load_model`.
        ModelError: see `load_model`.
    """
    if Path(source).is_file():
        import_checkpoint(Path(source), directory, image_size=image_size, dequantize=dequantize)
    else:
        checkpoint = load_model(source)
        check_image_size(source, checkpoint, image_size)
        save_checkpoint(
            directory,
            checkpoint.config,
            checkpoint.preprocessing,
            checkpoint.weights,
            None if dequantize else checkpoint.quantization,
        )


def default_name(source: str) -> str:
    """What to call a model: its directory, its file without the suffix, or its name on the hub."""
    if Path(source).exists():
        name = Path(source).resolve().name
    else:
        name = PurePath(source.partition("@")[0]).name
    for suffix in _IMPORTED:
        name = name.removesuffix(suffix)
    return name


def _download(source: str, repo_id: str, revision: str | None) -> Path:
    directory = download_snapshot(repo_id, revision)
    if not (directory / _WEIGHTS).exists():
        _refuse_pickle(source, directory, set(list_files(repo_id, revision)))
        raise InvalidCheckpointError(f"{source}: has no {_WEIGHTS}")
    return directory


def _refuse_pickle(source: str, directory: Path, files: set[str]) -> None:
    """Refuse weights that are a pickle only: reading one can run whatever its author wants."""
    if _WEIGHTS in files or not files & _PICKLES:
        return
    is_local = Path(source).is_dir()
    model, _, revision = (source, "", "") if is_local else source.partition("@")
    target = source if is_local else default_name(source)
    arguments = f"{model!r}, revision={revision!r}" if revision else repr(model)
    classes = [_transformers_class(directory)]
    if not is_local:
        classes.append("AutoImageProcessor")
    code = f"from transformers import {', '.join(classes)}; " + "; ".join(
        f"{one}.from_pretrained({arguments}).save_pretrained({target!r})" for one in classes
    )
    raise InvalidCheckpointError(
        f"{source}: has its weights as a pickle only, which can run code when it is read; if you "
        f"trust it, convert it and serve {target!r}: python -c {shlex.quote(code)}"
    )


def _transformers_class(directory: Path) -> str:
    try:
        architectures = json.loads((directory / "config.json").read_bytes())["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        architectures = []
    return (
        "AutoModel" if architectures == ["MobileNetV1Model"] else "AutoModelForImageClassification"
    )
