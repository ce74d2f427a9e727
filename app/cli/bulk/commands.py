"""Runs classify and embed; what they need is imported when they run."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.bulk import options
from app.inference.options import DEFAULT_TOP_K, ClassifyOptions, EmbedOptions, parse_layers
from app.settings import API_KEY_VARIABLE

if TYPE_CHECKING:
    from app.cli.bulk.local import LocalModel
    from app.cli.bulk.remote import RemoteServer


def classify(
    paths: options.Paths,
    *,
    output_format: options.Format = "table",
    top_k: options.TopK = DEFAULT_TOP_K,
    min_score: options.MinScore = 0.0,
    null: options.Null = False,
    size: options.Size = None,
    model: options.Model = None,
    server: options.Server = None,
    api_key_file: options.ApiKeyFile = None,
    connections: options.Connections = None,
) -> None:
    """Name what is in images: the best classes of each, in the order given."""
    from app.cli.bulk.run import Run
    from app.cli.bulk.writers import open_writer

    wanted = ClassifyOptions(
        # The default may be cut to a model's classes; typer does not tell it from a given 5.
        top_k=None if top_k == DEFAULT_TOP_K else top_k,
        min_score=min_score,
        size=size,
        model=model if server else None,
    )
    run = Run(paths, null=null)
    with run, _open(model, server, api_key_file, connections) as source:
        name = model if model and server else source.name
        with open_writer(output_format, name, run.write, run.console) as take:
            run.answer(source.classifier(wanted), take)
    raise typer.Exit(run.exit_code)


def embed(
    paths: options.Paths,
    *,
    output: options.Output,
    layer: options.Layer = "pooled",
    pooling: options.Pooling = "global",
    normalize: options.Normalize = False,
    output_stride: options.OutputStride = 32,
    dtype: options.Dtype = "float32",
    null: options.Null = False,
    size: options.Size = None,
    model: options.Model = None,
    server: options.Server = None,
    api_key_file: options.ApiKeyFile = None,
    connections: options.Connections = None,
) -> None:
    """Turn images into features, written to one NumPy file."""
    from app.cli.bulk.embeddings_file import EmbeddingsFile
    from app.cli.bulk.run import Run

    if output.suffix != ".npz" or not output.parent.is_dir():
        raise typer.BadParameter("must end in .npz, in a folder that exists", param_hint="--output")
    wanted = EmbedOptions(
        layers=_parse_layers(layer),
        pooling=pooling,
        normalize=normalize,
        output_stride=output_stride,
        dtype=dtype,
        size=size,
        model=model if server else None,
    )
    run = Run(paths, null=null)
    with (
        run,
        EmbeddingsFile(output) as file,
        _open(model, server, api_key_file, connections) as source,
    ):
        run.answer(source.embedder(wanted), file.add)
    raise typer.Exit(run.exit_code)


def _open(
    model: str | None, server: str | None, api_key_file: Path | None, connections: int | None
) -> AbstractContextManager[LocalModel | RemoteServer]:
    """Open what answers: a model in this process, or a server."""
    if server:
        from app.cli.bulk.remote import RemoteServer

        api_key = _read_api_key(api_key_file)
        return RemoteServer(server, api_key=api_key, connections=connections)
    if api_key_file or connections:
        raise typer.BadParameter("--api-key-file and --connections need --server")
    from app.cli.bulk.local import LocalModel
    from app.inference.memory import tune_malloc
    from app.settings import InvalidSettingError, load_settings

    tune_malloc()
    try:
        return nullcontext(LocalModel(load_settings(models=model)))
    except InvalidSettingError as error:
        raise typer.BadParameter(str(error)) from error


def _parse_layers(text: str) -> tuple[str, ...]:
    try:
        return parse_layers(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="--layer") from error


def _read_api_key(file: Path | None) -> str | None:
    if file:
        key = file.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    else:
        key = os.environ.get(API_KEY_VARIABLE, "").strip()
    if (file and not key) or not (key.isascii() and key.isprintable()):
        raise typer.BadParameter(f"{file or API_KEY_VARIABLE} has no key on its first line")
    return key or None
