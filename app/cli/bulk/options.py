"""Declares the options of classify and embed, and the end of their help."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from app.inference import options
from app.settings import API_KEY_VARIABLE
from model.network import features

_EXIT_CODES = """
[bold]Exit codes[/]
0 every file was answered
1 some were not; they are listed on stderr
2 a wrong option
3 none was, or the run ended early: no model, no server, a server that refuses, a full disk
130 after Ctrl-C, 141 when the reader of stdout leaves; what was answered is written
"""
CLASSIFY_EPILOG = f"""
[bold]Examples[/]
mobilenet-serve classify cat.jpg photos/
mobilenet-serve classify 'photos/**/*.png' --format jsonl --top-k 1 > labels.jsonl
find . -name '*.jpg' -print0 | mobilenet-serve classify - --null --format csv
mobilenet-serve classify photos/ --server http://localhost:8000
{_EXIT_CODES}
"""
EMBED_EPILOG = f"""
[bold]Examples[/]
mobilenet-serve embed photos/ --output photos.npz --normalize
mobilenet-serve embed photos/ --output maps.npz --layer 5,11 --pooling none --dtype float16

[bold]The file[/]
numpy.load("photos.npz") has `paths` and `embeddings`: one row an answered image, in the order
given. Several layers are arrays under their own names instead, as `Conv2d_5_pointwise`.
{_EXIT_CODES}
"""


def _check_url(value: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(value)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return value
    raise typer.BadParameter("must look like http://localhost:8000")


_model_option = partial(typer.Option, rich_help_panel="Model")
_server_option = partial(typer.Option, rich_help_panel="Through a server")

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Files; folders, of which every image is taken, also below; patterns in quotes; "
        "`-` reads a list of paths, one a line.",
    ),
]
Format = Annotated[
    Literal["table", "json", "jsonl", "csv"], typer.Option("--format", help="What to print.")
]
TopK = Annotated[int, typer.Option(min=1, max=options.MAX_TOP_K, help="Classes an image at most.")]
MinScore = Annotated[float, typer.Option(min=0, max=1, help="Leave out classes that score less.")]
Null = Annotated[
    bool, typer.Option("--null", help="The list of `-` is separated by NUL, as find -print0 does.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", dir_okay=False, help="The .npz file to write.")
]
Layer = Annotated[
    str, _model_option(help="`pooled`, or layers by name or number, with commas: 5,11,13.")
]
Pooling = Annotated[
    features.Pooling,
    _model_option(help="Of a layer's map: its mean; 7x7 averages, stride 2; or the map itself."),
]
Normalize = Annotated[bool, typer.Option("--normalize", help="Scale to unit length.")]
OutputStride = Annotated[
    Literal[32, 16, 8],
    _model_option(help="Input side over the last map's; less than 32 gives finer maps."),
]
Dtype = Annotated[options.Dtype, typer.Option(help="Of the numbers.")]
Size = Annotated[
    int | None,
    _model_option(
        min=options.MIN_SIZE,
        max=options.MAX_SIZE,
        help="Side in pixels of what the network sees; the model's own by default.",
    ),
]
Model = Annotated[
    str | None,
    _model_option(
        help="A directory, a file to import, or a Hugging Face id; with --server one that it "
        "serves. By default the first of MOBILENET_MODELS; the other variables of `serve` count "
        "here as well."
    ),
]
Server = Annotated[
    str | None,
    _server_option(
        metavar="URL", parser=_check_url, help="Ask a running server instead of loading a model."
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    _server_option(
        exists=True,
        dir_okay=False,
        help=f"File whose first line is the server's key; without it, {API_KEY_VARIABLE} may hold "
        "the key itself.",
    ),
]
Connections = Annotated[
    int | None,
    _server_option(
        min=1, max=256, help="Images that are sent at once; by default what keeps the server busy."
    ),
]
