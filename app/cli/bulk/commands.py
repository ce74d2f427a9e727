"""The commands of many images: classify, embed. What they need is imported when they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.bulk.options import (
    ApiKeyFile,
    Connections,
    Dtype,
    Layer,
    LayerPooling,
    Model,
    Normalize,
    Null,
    Output,
    OutputStride,
    Paths,
    Pooling,
    Precision,
    Server,
    Size,
    Stride,
    TextFormat,
)
from app.inference.options import DEFAULT_TOP_K, MAX_TOP_K, ClassifyOptions, EmbedOptions
from app.settings import API_KEY_VARIABLE
from model.network.features import parse_layer

if TYPE_CHECKING:
    from app.cli.bulk.local import LocalModel
    from app.cli.bulk.remote import RemoteServer


def classify(
    paths: Paths,
    *,
    output_format: Annotated[
        TextFormat, typer.Option("--format", help="What to print.")
    ] = TextFormat.table,
    top_k: Annotated[
        int, typer.Option(min=1, max=MAX_TOP_K, help="Classes an image at most.")
    ] = DEFAULT_TOP_K,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out classes that score less.")
    ] = 0.0,
    null: Null = False,
    size: Size = None,
    model: Model = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    connections: Connections = None,
) -> None:
    """Name what is in images: the best classes of each, in the order given."""
    from app.cli.bulk.run import Run, create_write
    from app.cli.bulk.writers import create_writer
    from app.cli.terminal import terminal_console

    options = ClassifyOptions(
        top_k=None if top_k == DEFAULT_TOP_K else top_k,
        min_score=min_score,
        size=size,
        model=model if server else None,
    )
    run = Run(paths, null=null)
    with run, _open(model, server, api_key_file, connections) as source:
        name = model if model and server else source.name
        console = terminal_console()
        writer = create_writer(output_format.value, name, create_write(console), console)
        try:
            run.answer(source.classifier(options), console, writer.write)
        finally:
            writer.close()
    raise typer.Exit(run.exit_code)


def embed(
    paths: Paths,
    *,
    output: Output,
    layer: Layer = "pooled",
    pooling: Pooling = LayerPooling.global_,
    normalize: Normalize = False,
    output_stride: Stride = OutputStride.whole,
    dtype: Precision = Dtype.float32,
    null: Null = False,
    size: Size = None,
    model: Model = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    connections: Connections = None,
) -> None:
    """Turn images into features, written to one NumPy file."""
    from app.cli.bulk.embeddings_file import EmbeddingsFile
    from app.cli.bulk.run import Run
    from app.cli.terminal import terminal_console

    if output.suffix != ".npz" or not output.parent.is_dir():
        raise typer.BadParameter("must end in .npz, in a folder that exists", param_hint="--output")
    options = EmbedOptions(
        layers=_parse_layers(layer),
        pooling=pooling.value,
        normalize=normalize,
        output_stride=int(output_stride.value),
        dtype=dtype.value,
        size=size,
        model=model if server else None,
    )
    run = Run(paths, null=null)
    with (
        run,
        EmbeddingsFile(output) as file,
        _open(model, server, api_key_file, connections) as source,
    ):
        run.answer(source.embedder(options), terminal_console(), file.add)
    raise typer.Exit(run.exit_code)


@contextmanager
def _open(
    model: str | None, server: str | None, api_key_file: Path | None, connections: int | None
) -> Iterator[LocalModel | RemoteServer]:
    """What answers: this process, or a server."""
    if server:
        from app.cli.bulk.remote import RemoteServer

        api_key = _read_api_key(api_key_file)
        with RemoteServer(server, api_key=api_key, connections=connections) as remote:
            yield remote
        return
    if api_key_file or connections:
        raise typer.BadParameter("--api-key-file and --connections need --server")
    from app.cli.bulk.local import LocalModel
    from app.inference.memory import limit_arenas, map_large_blocks
    from app.settings import InvalidSettingError, load_settings

    limit_arenas()
    map_large_blocks()
    try:
        local = LocalModel(load_settings(models=model))
    except InvalidSettingError as error:
        raise typer.BadParameter(str(error)) from error
    yield local


def _parse_layers(text: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(map(parse_layer, text.split(","))))
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
