"""Shows progress on the terminal: how many are done, how fast, and how long it will take."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} images/s" if speed else "", style="cyan")


class ProgressBar(Progress):
    """Counts files at the bottom of the terminal; draws nothing unless stderr is one.

    Args:
        console: of the results, if they go to a terminal; the bar shares it, or each would
            overwrite the other.
    """

    def __init__(self, console: Console | None) -> None:
        super().__init__(
            SpinnerColumn(),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[failed]}"),
            console=console or Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._files = self.add_task("", total=None, failed="")

    def expect(self, files: Iterator[object]) -> None:
        """Count files in another thread, and set the bar's total."""

        def count() -> None:
            self.update(self._files, total=sum(1 for _ in files))

        threading.Thread(target=count, daemon=True).start()

    def count(self, failed: int) -> None:
        """Count one more file as done, and tell how many have failed so far."""
        text = f"[red]{failed} failed" if failed else ""
        self.update(self._files, advance=1, failed=text)
