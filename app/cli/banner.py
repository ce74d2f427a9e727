"""Describes loaded models and a ready server on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.cli.terminal import terminal_console
from app.inference.information import InfoResponse, ModelInfo
from app.settings import Settings
from app.telemetry.escape import escape

_DIGEST_CHARACTERS: Final = 12
"""Characters of a digest that are shown."""


def announcer(settings: Settings) -> Callable[[InfoResponse, str], None] | None:
    """Create what shows a ready server on the terminal; None if logs are JSON or there is none."""
    console = terminal_console()
    if settings.log_format == "json" or console is None:
        return None
    return lambda info, url: console.print(create_banner(info, url, has_page=settings.page))


def create_banner(info: InfoResponse, url: str, *, has_page: bool) -> Panel:
    """Create one screen about a ready server."""
    page = [("page", f"{url}/")] if has_page else []
    addresses = [("address", url), *page, ("docs", f"{url}/docs")]
    example = f"curl -F file=@cat.jpg {url}/classify"
    return Panel(
        Group(
            create_summary(info),
            "",
            _create_table(addresses, "cyan"),
            "",
            _create_table([("try", example)]),
        ),
        title=Text(f"mobilenet-serve {info.version}", style="bold"),
        title_align="left",
        border_style="green",
        padding=(1, 2),
        expand=False,
    )


def create_summary(info: InfoResponse) -> Table:
    """Create the part of the screen that is about models."""
    first = info.models[0]
    images = _count(info.max_batch_size, "image")
    return _create_table(
        [
            *(("model", _describe_model(model)) for model in info.models),
            ("engine", f"{first.engine} on {first.device}, {_count(info.threads, 'thread')}"),
            ("batches", f"up to {images}, {info.streams} at once"),
        ]
    )


def _describe_model(model: ModelInfo) -> str:
    sides = model.input_size if isinstance(model.input_size, tuple) else [model.input_size] * 2
    size = "x".join(map(str, sides))
    classes = f"{model.num_labels} classes" if model.num_labels else "no classes"
    return f"{escape(model.name)}  {size}, {classes}, sha256 {model.digest[:_DIGEST_CHARACTERS]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _create_table(rows: Iterable[tuple[str, str]], style: str = "") -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim", min_width=7)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value, style=style))
    return table
