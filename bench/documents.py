"""Where measurements are written: sections between marks in docs/, and plots beside them."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"


def write_section(document: str, section: str, text: str) -> None:
    """Replace what stands between `<!-- SECTION: begin -->` and `<!-- SECTION: end -->`.

    Raises:
        ValueError: the document has no such marks.
    """
    path = DOCS / document
    begin, end = (f"<!-- {section}: {mark} -->\n" for mark in ("begin", "end"))
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no section {section}")
    path.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


def save_plot(figure: Figure, name: str) -> None:
    """Save a plot so that the same figures give the same file."""
    with mpl.rc_context({"svg.hashsalt": "mobilenet"}):
        figure.savefig(DOCS / name, metadata={"Date": None}, bbox_inches="tight")
