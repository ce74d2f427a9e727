"""Lists the pages of docs/ that are written from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from reference import api, command_line, errors, metrics, settings

_DOCS: Final = Path(__file__).parents[1] / "docs"

PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "api.md": api.write,
        "command-line.md": command_line.write,
        "errors.md": errors.write,
        "metrics.md": metrics.write,
        "settings.md": settings.write,
    }
)


def path_of(name: str) -> Path:
    """Where a page lies."""
    return _DOCS / name
