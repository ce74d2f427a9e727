"""Defines the commands: serve, classify, embed, convert, quantize, info, labels, settings."""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app import __version__
from app.cli.bulk.commands import classify, embed
from app.cli.bulk.files import find_files
from app.cli.bulk.options import CLASSIFY_EPILOG, EMBED_EPILOG
from app.cli.serve_flags import SERVE_EPILOG, serve_flags
from app.settings import InvalidSettingError, describe_settings, load_settings
from app.telemetry.escape import escape
from model.errors import ModelError
from model.network.config import MIN_IMAGE_SIDE

if TYPE_CHECKING:
    from model.checkpoints.labels import Label
    from model.quantization.quantize_model import Report

_FAILED, _USAGE = 1, 2
_MAX_IMAGE_SIDE = 1024
_LABELS_EPILOG = """
[bold]Examples[/]
mobilenet-serve labels tabby
mobilenet-serve labels n02123045 --json
"""
_CONVERT_EPILOG = """
[bold]Examples[/]
mobilenet-serve convert mobilenet_v1_0.5_160.tgz weights/small
mobilenet-serve serve --models weights/small
"""
_QUANTIZE_EPILOG = """
[bold]Examples[/]
mobilenet-serve quantize weights/pets --calibration photos/pets --output weights/pets_int8
mobilenet-serve serve --models weights/pets_int8
"""

app = typer.Typer(
    help="Image labels and image embeddings from MobileNet V1.",
    epilog="Each command says more: mobilenet-serve classify --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="mobilenet-serve")
    except SystemExit as error:
        if threading.active_count() > 1:
            # The interpreter's own exit would wait for threads, or abort in native code.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(error.code if isinstance(error.code, int) else _FAILED)
        raise


def _show_version(asked: bool) -> None:  # noqa: FBT001  # typer calls it so
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[  # its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


def serve(**given: str | None) -> None:
    """Serve over HTTP until a signal comes."""
    with _reporting_errors():
        settings = load_settings(**given)

        from app.cli.banner import announcer  # after the settings, whose errors are told at once
        from app.server.uvicorn_server import run

        raise typer.Exit(run(settings, announcer(settings)))


# typer reads a command's flags from its signature.
serve.__signature__ = inspect.Signature(list(serve_flags()))  # type: ignore[attr-defined]  # functions take it
app.command(epilog=SERVE_EPILOG)(serve)
app.command(epilog=CLASSIFY_EPILOG)(classify)
app.command(epilog=EMBED_EPILOG)(embed)

_Model = Annotated[
    str | None,
    typer.Option(
        help="A directory, a file to import, or a Hugging Face id; by default MOBILENET_MODELS."
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def info(*, model: _Model = None, as_json: _Json = False) -> None:
    """Load a model, and tell what it is and what `serve` would choose on this machine."""
    import asyncio

    from pydantic_core import to_json
    from rich.console import Console

    from app.cli.banner import create_summary
    from app.inference.information import InfoResponse, describe
    from app.inference.lifecycle import Lifecycle
    from app.telemetry.metrics import Metrics

    async def load() -> InfoResponse:
        async with Lifecycle(load_settings(models=model), Metrics()) as lifecycle:
            await lifecycle.load()
            return describe(lifecycle)

    with _reporting_errors():
        described = asyncio.run(load())
    if as_json:
        typer.echo(to_json(described, indent=2))
    else:
        Console(highlight=False).print(create_summary(described))


@app.command(epilog=_LABELS_EPILOG)
def labels(
    search: Annotated[
        str,
        typer.Argument(
            metavar="SEARCH", help="Part of a label, a WordNet id as n02123045, or a class id."
        ),
    ] = "",
    *,
    model: _Model = None,
    as_json: _Json = False,
) -> None:
    """Find the classes of a model; all of them without SEARCH. Exits with 1 if there is none."""
    from model.sources.load import load_model

    with _reporting_errors():
        name, source = next(load_settings(models=model).model_sources())
        known = load_model(source, name).labels
    found = [label for label in known if _matches(label, search)]
    if as_json:
        typer.echo(json.dumps(list(map(asdict, found)), indent=2))
    else:
        for label in found:
            typer.echo(f"{label.class_id:4}  {label.wnid or '-':9}  {escape(label.label)}")
    raise typer.Exit(0 if found else _FAILED)


def _matches(label: Label, search: str) -> bool:
    text = search.strip().lower()
    return text in label.label.lower() or text in {label.wnid, str(label.class_id)}


@app.command()
def settings() -> None:
    """Print the settings as a Markdown table."""
    typer.echo("| variable | flag of serve | default | meaning |")
    typer.echo("|---|---|---|---|")
    for one in describe_settings():
        typer.echo(f"| `{one.variable}` | `{one.flag}` | `{one.default}` | {one.meaning} |")


@app.command(epilog=_CONVERT_EPILOG)
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A .tgz, .pb or .tflite file, a directory, or a Hugging Face id."
        ),
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where to write the checkpoint.")
    ],
    *,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=MIN_IMAGE_SIDE,
            max=_MAX_IMAGE_SIDE,
            help="Side of the input of a frozen graph that does not tell it.",
        ),
    ] = None,
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Write float weights only, for transformers.")
    ] = False,
) -> None:
    """Turn a released checkpoint into a directory that serve and transformers read."""
    from model.sources.load import convert_model

    with _reporting_errors(), _reporting_where_it_cannot_write(directory):
        convert_model(source, directory, image_size=image_size, dequantize=dequantize)
    typer.echo(f"Wrote {directory}")


@app.command(epilog=_QUANTIZE_EPILOG)
def quantize(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Float weights: a directory, a file, or a Hugging Face id."
        ),
    ],
    *,
    calibration: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Images like those to be classified, some hundreds; one in four is held out to "
            "compare the answers on.",
        ),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write the checkpoint; must not exist.")
    ],
) -> None:
    """Turn float weights into int8 ones, and compare their answers.

    Writes nothing if fewer than 97 % of the images held out get the same best class.
    """
    from model.quantization.quantize_model import quantize_model

    with _reporting_errors(), _reporting_where_it_cannot_write(output):
        quantize_model(checkpoint, lambda: _find_images(calibration), output, _show_agreement)
    typer.echo(f"Wrote {output}")


def _find_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        _fail(f"{folder}: is no folder", _FAILED)
    found = list(find_files([str(folder)], lambda: sys.stdin.buffer))
    for one in found:
        if one.error:
            _fail(f"{one.path}: {one.error}", _FAILED)
    return [Path(one.path) for one in found]


def _show_agreement(report: Report) -> None:
    from model.quantization.agreement import CLEAR_LEAD

    agreement = report.agreement
    if report.rejected:
        typer.echo(f"Files that are no images, left out: {report.rejected}")
    typer.echo(
        f"Calibrated with {report.calibrated} images, compared on {agreement.images} others:\n"
        f"  same best class          {agreement.same} of {agreement.images}\n"
        f"  where it leads by {CLEAR_LEAD}   {agreement.same_clear} of {agreement.clear}\n"
        f"  difference of its score  {agreement.mean_difference:.3f} on average, "
        f"{agreement.max_difference:.3f} at most"
    )


@contextmanager
def _reporting_where_it_cannot_write(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or "cannot be written"
        _fail(f"{error.filename or directory}: {why}", _FAILED)


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and an exit code."""
    try:
        yield
    except InvalidSettingError as error:
        _fail(str(error), _USAGE)
    except ModelError as error:
        _fail(str(error), _FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)
