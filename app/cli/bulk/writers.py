"""Writes classifications as text: a table for people; JSON, JSON lines and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.api.routes.schemas import Prediction
from app.telemetry.escape import escape

_COLUMNS: Final = ("path", "rank", "class_id", "wnid", "label", "score")
_BAR: Final = 12
_PATH_SHARE: Final = 0.34
"""Of a terminal's width, for the paths."""


class Writer:
    """Writes one image after the other, each as soon as it is answered."""

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        """Write one image's classes, best first."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what belongs at the end: nothing."""


def create_writer(
    output_format: str, model: str, write: Callable[[str], None], console: Console | None
) -> Writer:
    """Create the writer of a format.

    Args:
        output_format: `table`, `json`, `jsonl` or `csv`.
        model: its name, for the formats that name it with each image.
        write: takes text.
        console: of the terminal that the table is for; None if it goes elsewhere.
    """
    match output_format:
        case "json":
            return _Json(model, write)
        case "jsonl":
            return _JsonLines(model, write)
        case "csv":
            return _Csv(write)
    return _TerminalTable(console) if console else _PlainTable(write)


class _JsonLines(Writer):
    """One object a line."""

    def __init__(self, model: str, write: Callable[[str], None]) -> None:
        self._model = model
        self._write = write

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        self._write(self._object(path, predictions) + "\n")

    def _object(self, path: str, predictions: Sequence[Prediction]) -> str:
        return json.dumps({"path": path, "model": self._model, "predictions": list(predictions)})


class _Json(_JsonLines):
    """One array of the same objects, each on a line of its own."""

    _waiting = "["

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        comma = "" if self._waiting == "[" else ","
        self._write(f"{self._waiting}{comma}\n")
        self._waiting = self._object(path, predictions)

    def close(self) -> None:
        self._write(f"{self._waiting}\n]\n")


class _Csv(Writer):
    """A header, and one line a class (RFC 4180, but with the line ends of this system)."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._write_rows([_COLUMNS])

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        self._write_rows(
            [
                (path, rank, one["class_id"], one["wnid"], one["label"], one["score"])
                for rank, one in enumerate(predictions, 1)
            ]
        )

    def _write_rows(self, rows: Sequence[Sequence[object]]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(text.getvalue())


class _PlainTable(Writer):
    """Columns in a file or a pipe: nothing is cut off."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, path: str, predictions: Sequence[Prediction]) -> None:
        name = escape(path)
        lines = [
            f"{name:40}  {one['score']:6.4f}  {one['wnid'] or '-':9}  {escape(one['label'])}\n"
            for one in predictions
        ]
        self._write("".join(lines) or f"{name}\n")


class _TerminalTable(Writer):
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
