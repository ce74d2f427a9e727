"""Runs over many files: shows the progress, and reports at the end what failed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TypeVar

import typer

from app.cli.bulk.files import STDIN, FileError, Found, StoppedError, find_files
from app.cli.bulk.progress import ProgressBar
from app.cli.bulk.workers import Answerer, Workers
from app.cli.terminal import terminal_console
from app.telemetry.escape import escape
from model.errors import ModelError

_T = TypeVar("_T")

_print_error = partial(typer.echo, err=True)

_SOME_FAILED, _NONE_ANSWERED = 1, 3
_INTERRUPTED, _NO_READER = 130, 141
"""What a shell says of a program that SIGINT or SIGPIPE ended."""


class Run(AbstractContextManager["Run"]):
    """Use as a context manager: leaving it reports what failed and sets `exit_code`.

    It handles what may end a run: Ctrl-C, a reader of stdout that leaves, a full disk, a model that
    cannot be loaded, a server that is gone.

    Args:
        arguments: see `find_files`.
        null: whether the list on stdin is separated by NUL.

    Attributes:
        console: of the terminal that stdout is, if it is one.
    """

    def __init__(self, arguments: Sequence[str], *, null: bool) -> None:
        self._arguments = arguments
        self._separator = b"\0" if null else b"\n"
        self._failed: list[tuple[str, FileError]] = []
        self._answered = 0
        self._seconds = 0.0
        self.exit_code = 0
        self.console = terminal_console()

    def answer(self, answerer: Answerer[_T], take: Callable[[str, _T], None]) -> None:
        """Answer every file, and pass each path and answer in order to `take`.

        A FileError that `take` raises counts as the file's.
        """
        started = time.monotonic()
        with ProgressBar(self.console) as bar, Workers(self._find(), answerer) as results:
            if STDIN not in self._arguments:
                bar.expect(self._find())
            for path, result in results:
                try:
                    if isinstance(result, FileError):
                        raise result
                    take(path, result)
                    self._answered += 1
                except FileError as error:
                    self._failed.append((path, error))
                bar.count(len(self._failed))
        self._seconds = time.monotonic() - started

    def write(self, text: str) -> None:
        """Write to stdout at once, above the bar on a shared terminal."""
        if self.console:
            self.console.print(text, end="", markup=False, soft_wrap=True)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Report on stderr; return whether the exception is handled."""
        if isinstance(error, BrokenPipeError):
            # The interpreter would try again to write what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.exit_code = _NO_READER
            return True
        if error and not isinstance(error, (KeyboardInterrupt, StoppedError, ModelError, OSError)):
            return False
        self._report_failed()
        if isinstance(error, KeyboardInterrupt):
            _print_error("Interrupted; what was answered is written.")
            self.exit_code = _INTERRUPTED
        elif error:
            _print_error(f"Error: {escape(_sentence(error))}")
            self.exit_code = _NONE_ANSWERED
        elif self._failed:
            self.exit_code = _SOME_FAILED if self._answered else _NONE_ANSWERED
        return True

    def _report_failed(self) -> None:
        if self._failed:
            _print_error(
                f"{len(self._failed)} of {len(self._failed) + self._answered} without an answer:"
            )
        for path, error in self._failed:
            _print_error(f"  {escape(path)}: {escape(str(error))}")  # a server's, perhaps
        if self._answered and self._seconds and sys.stderr.isatty():
            rate = self._answered / self._seconds
            images = "1 image" if self._answered == 1 else f"{self._answered} images"
            _print_error(f"{images} in {self._seconds:.1f} s, {rate:.0f} images/s.")

    def _find(self) -> Iterator[Found]:
        return find_files(self._arguments, lambda: sys.stdin.buffer, self._separator)


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'The output'} cannot be written: {error.strerror}."
    return str(error)
