"""Writes classifications as text: a table for people; JSON, JSON lines and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.api.routes.schemas import Prediction
from app.telemetry.escape import escape

Take = Callable[[str, Sequence[Prediction]], None]
"""Takes one image's path and classes, best first."""

_COLUMNS: Final = ("path", "rank", "class_id", "wnid", "label", "score")
_BAR: Final = 12
_PATH_SHARE: Final = 0.34
"""Of a terminal's width, for the paths."""


@contextmanager
def open_writer(
    output_format: str, model: str, write: Callable[[str], None], console: Console | None
) -> Iterator[Take]:
    """Yield a function that writes one image after the other, each as soon as it is answered.

    Args:
        output_format: `table`, `json`, `jsonl` or `csv`.
        model: its name, for the formats that name it with each image.
        write: takes text.
        console: of the terminal that the table is for; None if it goes elsewhere.
    """

    def describe(path: str, predictions: Sequence[Prediction]) -> str:
        return json.dumps({"path": path, "model": model, "predictions": list(predictions)})

    match output_format:
        case "json":
            with _json_array(write) as add:
                yield lambda path, predictions: add(describe(path, predictions))
        case "jsonl":
            yield lambda path, predictions: write(f"{describe(path, predictions)}\n")
        case "csv":
            write(_format_csv([_COLUMNS]))
            yield lambda path, predictions: write(_format_csv(_list_rows(path, predictions)))
        case _ if console:
            yield _TerminalTable(console).write
        case _:
            yield lambda path, predictions: write(_format_lines(path, predictions))


@contextmanager
def _json_array(write: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Write an array of objects, each on a line of its own once it is known what follows it."""
    waiting = "["

    def add(entry: str) -> None:
        nonlocal waiting
        write(f"{waiting}\n" if waiting == "[" else f"{waiting},\n")
        waiting = entry

    try:
        yield add
    finally:
        write(f"{waiting}\n]\n")


def _format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Format as RFC 4180 says, but with the line ends of this system."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _list_rows(path: str, predictions: Sequence[Prediction]) -> list[Sequence[object]]:
    return [
        (path, rank, one["class_id"], one["wnid"], one["label"], one["score"])
        for rank, one in enumerate(predictions, 1)
    ]


def _format_lines(path: str, predictions: Sequence[Prediction]) -> str:
    """Format as columns for a file or a pipe: nothing is cut off."""
    name = escape(path)
    lines = [
        f"{name:40}  {one['score']:6.4f}  {one['wnid'] or '-':9}  {escape(one['label'])}\n"
        for one in predictions
    ]
    return "".join(lines) or f"{name}\n"


class _TerminalTable:
    """Columns as wide as the terminal, with a bar a score."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._has_head = False

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, show_header=not self._has_head)
        width = int(self._console.width * _PATH_SHARE)
        table.add_column("file", width=width, no_wrap=True, header_style="dim")
        table.add_column("class", ratio=1, no_wrap=True, header_style="dim")
        table.add_column("score", width=7, justify="right", header_style="dim")
        table.add_column("", width=_BAR)
        name = Text(_shorten(escape(path), width))
        for rank, one in enumerate(predictions):
            style = "bold" if rank == 0 else "dim"
            table.add_row(
                name if rank == 0 else "",
                Text(escape(one["label"]), style=style),
                Text(f"{100 * one['score']:.1f} %", style=style),
                Text(_bar(one["score"]), style="green" if rank == 0 else "dim green"),
            )
        if not predictions:
            table.add_row(name, Text("no class scores as much", style="dim"))
        self._console.print(table)
        self._has_head = True


def _bar(score: float) -> str:
    halves = round(2 * _BAR * score)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def _shorten(text: str, width: int) -> str:
    """Cut from the left: a path's end tells more than its beginning."""
    return text if len(text) <= width else f"…{text[1 - width :]}"
