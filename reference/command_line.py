"""docs/command-line.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import typer
from rich.text import Text
from typer.core import TyperArgument, TyperGroup, TyperOption

from app.cli.main import app
from reference.markdown import code, page, table

_INTRODUCTION: Final = """\
`python -m app COMMAND`, in an environment that has the dependencies (`.venv/bin/python` after
`make serve`); after `pip install -e .` the same is called `mobilenet-serve`. `--help` after any
command says what is written here, and `--install-completion` lets the shell complete all of it.

What is wrong with a command ends it with exit code 2; what is wrong with its input ends `info`,
`labels`, `convert` and `quantize` with 1, each with one line that says what.
[`classify`](#classify) and [`embed`](#embed) have more codes; those of a server are told under
[operate](operate.md)."""
_AS_IT_IS: Final = frozenset({"Examples", "Exit codes"})
"""What a help text has a line each of."""


def write() -> str:
    """Every command, with its arguments and flags."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101  # a program of several commands
    parts = [part for name, command in group.commands.items() for part in _describe(name, command)]
    return page("Command line", "app/cli/main.py", _INTRODUCTION, *parts)


def _describe(name: str, command: object) -> Iterator[str]:
    assert isinstance(command, typer.core.TyperCommand)  # noqa: S101  # what typer makes
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    options = [one for one in command.params if isinstance(one, TyperOption)]
    usage = " ".join(["python -m app", name, *command.collect_usage_pieces(typer.Context(command))])
    yield f"## {name}"
    yield f"```text\n{usage}\n```"
    yield _plain(command.help)
    if name == "serve":
        yield "Its flags are the [settings](settings.md), each also an environment variable."
    else:
        rows = [[code(one.metavar), "", "", _plain(one.help)] for one in arguments]
        rows += [_row(option) for option in options]
        if rows:
            yield table(["word", "values", "default", "meaning"], rows)
    for section in (command.epilog or "").split("[bold]")[1:]:
        title, _, text = section.partition("[/]\n")
        lines, _, _ = text.strip().partition("\n\n")
        yield f"{title}:"
        yield f"```text\n{lines}\n```" if title in _AS_IT_IS else lines


def _row(option: TyperOption) -> list[str]:
    kind: Any = option.type_descriptor.annotation
    values = get_args(kind) if get_origin(kind) is Literal else ()
    default = option.default
    is_shown = isinstance(default, str | int | float) and not isinstance(default, bool)
    return [
        ", ".join(map(code, option.opts)),
        ", ".join(map(code, values)),
        code(default) if is_shown else "",
        _plain(option.help),
    ]


def _plain(text: str | None) -> str:
    """A help text without what makes it bold or grey."""
    return Text.from_markup(text or "").plain.strip()
