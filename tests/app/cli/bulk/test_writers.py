from __future__ import annotations

import csv
import json
from io import StringIO
from typing import get_args

import pytest
from rich.console import Console

from app.api.routes.schemas import Prediction
from app.cli.bulk import options
from app.cli.bulk.writers import open_writer

HOSTILE = 'a,\x1b[31m\n"b\u202e\udcff.jpg'
CAT = Prediction(class_id=282, wnid="n02123045", label="tabby, tabby cat", score=0.43)
PET = Prediction(class_id=1, wnid=None, label="=1+1", score=0.25)


def write(
    wanted: str, *images: tuple[str, list[Prediction]], console: Console | None = None
) -> str:
    written: list[str] = []
    with open_writer(wanted, "m", written.append, console) as take:
        for path, predictions in images:
            take(path, predictions)
    return "".join(written)


@pytest.mark.parametrize("images", [[], [("a", [CAT])], [("a", [CAT]), (HOSTILE, [PET, CAT])]])
def test_json_is_one_array_and_json_lines_are_its_entries(
    images: list[tuple[str, list[Prediction]]],
) -> None:
    expected = [{"path": path, "model": "m", "predictions": some} for path, some in images]
    assert json.loads(write("json", *images)) == expected
    assert [json.loads(line) for line in write("jsonl", *images).splitlines()] == expected


def test_csv_gives_back_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(csv.reader(StringIO(write("csv", (HOSTILE, [CAT, PET]), ("b", [])), newline="")))
    assert rows == [
        ["path", "rank", "class_id", "wnid", "label", "score"],
        [HOSTILE, "1", "282", "n02123045", "tabby, tabby cat", "0.43"],
        [HOSTILE, "2", "1", "", "=1+1", "0.25"],
    ]


def test_the_plain_table_has_a_line_a_class_and_only_printable_characters() -> None:
    lines = write("table", (HOSTILE, [CAT, PET]), ("b" * 99, [])).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith(r"a,\x1b[31m\n")
    assert lines[0].endswith("0.4300  n02123045  tabby, tabby cat")
    assert lines[1].endswith("0.2500  -          =1+1")
    assert lines[2:] == ["b" * 99, ""]


def test_the_table_of_a_terminal_fits_it_and_takes_no_orders_from_names() -> None:
    output = StringIO()
    console = Console(file=output, width=60, color_system=None, legacy_windows=False)
    long = "[bold]" + "folder/" * 20 + "cat.jpg"
    write("table", (HOSTILE, [CAT]), (long, [PET]), ("none", []), console=console)
    head, hostile, shortened, empty = lines = output.getvalue().splitlines()
    assert head.split() == ["file", "class", "score"]
    assert shortened.startswith("…lder/folder/cat.jpg ")
    assert empty.split()[0] == "none"
    assert all(len(line) <= 60 and line.isprintable() for line in lines)
    assert "43.0 %  ━━━━━" in hostile


def test_every_format_has_a_writer() -> None:
    choice, _ = get_args(options.Format)
    assert all(write(wanted, ("a", [CAT])) for wanted in get_args(choice))
