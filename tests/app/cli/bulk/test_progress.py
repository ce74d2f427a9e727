from __future__ import annotations

import re
import sys
import threading
from io import StringIO

import pytest
from rich.console import Console

from app.cli.bulk.progress import ProgressBar


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def draw(monkeypatch: pytest.MonkeyPatch, stderr: StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stderr)
    console = Console(file=stderr, width=100, force_terminal=True)
    with ProgressBar(console) as bar:
        bar.expect(iter(range(12)))
        while bar.tasks[0].total is None:
            threading.Event().wait(0.001)
        for number in range(5):
            bar.count(failed=number // 2)
    return stderr.getvalue()


def test_a_terminal_sees_how_many_are_done_how_fast_and_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    drawn = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", draw(monkeypatch, _Terminal()))
    assert re.search(r" 5/12 +\d+ images/s +\d\d:\d\d +2 failed", drawn)


def test_a_terminal_of_results_gets_no_bar_while_stderr_is_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert draw(monkeypatch, StringIO()).strip() == ""
