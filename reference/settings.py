"""docs/settings.md."""

from __future__ import annotations

from app.settings import describe_settings
from reference.markdown import code, page


def write() -> str:
    """Every setting."""
    rows = [
        f"| {code(one.variable)} | {code(one.flag)} | {code(one.default)} | {one.meaning} |"
        for one in describe_settings()
    ]
    head = ["| variable | flag of serve | default | meaning |", "|---|---|---|---|"]
    return page("Settings", "app/settings.py", "\n".join((*head, *rows)))
