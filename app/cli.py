"""The commands: serve, classify, embed, convert, info, labels, settings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app import __version__
from app.bulk.commands import CLASSIFY_EPILOG, EMBED_EPILOG, classify, embed
from app.settings import InvalidSettingError, describe_settings, load_settings
from model.config import MIN_IMAGE_SIDE
from model.errors import ModelError

_USAGE = 2
_MAX_IMAGE_SIDE = 1024

app = typer.Typer(
    help="Image labels and image embeddings from MobileNet V1.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app(prog_name="mobilenet-serve")


def _show_version(shown: bool) -> None:  # noqa: FBT001  # typer calls it so
    if shown:
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
    from app.server import run

    try:
        code = run(load_settings(**given))
    except InvalidSettingError as error:
        _fail(str(error), _USAGE)
    sys.exit(code)


def _settings_options() -> Iterator[inspect.Parameter]:
    """One flag a setting; each is read and checked by `Settings`, wherever it comes from."""
    for setting in describe_settings():
        option = typer.Option(
            setting.flag,
            help=f"{setting.meaning} ({setting.variable}, default {setting.default})",
            metavar="VALUE",
        )
        yield inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, option],
        )


# typer reads a command's flags from its signature.
serve.__signature__ = inspect.Signature(list(_settings_options()))  # type: ignore[attr-defined]  # functions take it
app.command()(serve)
app.command(epilog=CLASSIFY_EPILOG)(classify)
app.command(epilog=EMBED_EPILOG)(embed)


@app.command()
def settings() -> None:
    """Print the settings as a Markdown table."""
    typer.echo("| variable | flag of serve | default | meaning |")
    typer.echo("|---|---|---|---|")
    for one in describe_settings():
        typer.echo(f"| `{one.variable}` | `{one.flag}` | `{one.default}` | {one.meaning} |")


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(help="a .tgz, .pb or .tflite file, a directory, or a Hugging Face id"),
    ],
    directory: Annotated[Path, typer.Argument(help="where to write the checkpoint")],
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
    from model.sources import convert_model

    try:
        convert_model(source, directory, image_size=image_size, dequantize=dequantize)
    except ModelError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename or directory}: {error.strerror or 'cannot be written'}", 1)
    typer.echo(f"Wrote {directory}")


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    sys.exit(code)
