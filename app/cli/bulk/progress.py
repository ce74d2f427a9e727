"""Shows progress on the terminal: how many are done, how fast, and how long it will take."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


class ProgressBar:
    """Counts files; draws nothing unless stderr is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, failed="")
        self._failed = 0

    def expect(self, files: int) -> None:
        """Set how many there are; may be called from another thread."""
        self._progress.update(self._task, total=files)

    def advance(self, *, failed: bool) -> None:
        """Count one more as done."""
        self._failed += failed
        text = f"[red]{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=1, failed=text)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} images/s" if speed else "", style="cyan")


@contextmanager
def show_progress(console: Console | None) -> Iterator[ProgressBar]:
    """Show a bar at the bottom of the terminal while inside; it leaves nothing behind.

    Args:
        console: of the results, if they go to a terminal; the bar shares it, or each would
            overwrite the other.
    """
    progress = Progress(
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
    with progress:
        yield ProgressBar(progress)


def count_in_background(bar: ProgressBar, files: Iterator[object]) -> None:
    """Count files in another thread, and set the bar's total."""
    count = threading.Thread(target=lambda: bar.expect(sum(1 for _ in files)), daemon=True)
    count.start()
