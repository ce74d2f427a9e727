"""Markdown that GitHub and the site read alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress


def page(title: str, source: str, *parts: str) -> str:
    """A page of paragraphs, tables and headings, with the source that says all this."""
    return "\n\n".join((f"# {title}", f"Written by `make docs` from `{source}`.", *parts)) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without the columns that nothing is in; a bar in a cell is escaped."""
    written = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    used = [any(column) for column in zip(*written, strict=True)]
    lines = [head, ["---"] * len(head), *written]
    return "\n".join(f"| {' | '.join(compress(line, used))} |" for line in lines)


def code(text: object) -> str:
    """A word as the code has it; nothing stays nothing."""
    return f"`{text}`" if text not in {None, ""} else ""
