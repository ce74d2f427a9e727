"""Finds the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def terminal_console() -> Console | None:
    """Return a console on stdout, if that is a terminal."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout and sys.stdout.isatty() else None
