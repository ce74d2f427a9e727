"""Writes measurements into docs/: sections between marks, and plots beside them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
_INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI"}


def describe_machine() -> str:
    """Return a sentence that names the date, the commit, and the CPU."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    (name,) = re.findall(r"^model name\s*: (.*)", cpu, re.MULTILINE)[:1] or ["a CPU without a name"]
    flags = set(re.findall(r"\b[a-z0-9_]+\b", cpu))
    found = sorted({text for flag, text in _INSTRUCTIONS.items() if flag in flags})
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DOCS).stdout
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, commit {commit.strip()}, "
        f"{len(os.sched_getaffinity(0))} cores of {name} ({', '.join(found) or 'no AVX2'})."
    )


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text, and the others figures."""
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], f"|---|{'--:|' * (len(columns) - 1)}", *lines[1:]])


def write_section(document: str, section: str, text: str) -> None:
    """Replace the text between `<!-- SECTION: begin -->` and `<!-- SECTION: end -->`.

    Raises:
        ValueError: the document has no such marks.
    """
    path = DOCS / document
    begin, end = (f"<!-- {section}: {mark} -->\n" for mark in ("begin", "end"))
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no section {section}")
    section_text = f"{text}\n\n{describe_machine()}\n"
    path.write_text(f"{before}{begin}{section_text}{end}{after}", encoding="utf-8")


def save_plot(figure: Figure, name: str) -> None:
    """Save a plot so that the same figures give the same file."""
    with mpl.rc_context({"svg.hashsalt": "mobilenet"}):
        figure.savefig(DOCS / name, metadata={"Date": None}, bbox_inches="tight")
