"""One run over many files: shows how far it is, and says at the end what went wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from rich.console import Console

from app.cli.bulk.errors import FileError, StoppedError
from app.cli.bulk.files import STDIN, Found, find_files
from app.cli.bulk.progress import count_in_background, show_progress
from app.cli.bulk.workers import Answerer, Pipeline
from app.telemetry.escape import escape
from model.errors import ModelError

_T = TypeVar("_T")

_SOME_FAILED, _NONE_ANSWERED = 1, 3
_INTERRUPTED, _NO_READER = 130, 141
"""What a shell says of a program that SIGINT or SIGPIPE ended."""


class Run:
    """Use as a context manager: leaving it tells what failed, and `exit_code` is what to end with.

    It takes in what may end a run: Ctrl-C, a reader of stdout that leaves, a full disk, a model
    that cannot be loaded, a server that is gone.

    Args:
        arguments: see `find_files`.
        null: whether the list on stdin is separated by NUL.
    """

    def __init__(self, arguments: Sequence[str], *, null: bool) -> None:
        self._arguments = arguments
        self._separator = b"\0" if null else b"\n"
        self._failed: list[tuple[str, FileError]] = []
        self._answered = 0
        self._seconds = 0.0
        self.exit_code = 0

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def answer(
        self,
        answerer: Answerer[_T],
        console: Console | None,
        take: Callable[[str, _T], None],
    ) -> None:
        """Answer every file, and give each answer with its path to `take`, in order.

        Args:
            answerer: answers.
            console: of the terminal that `take` writes to, if it does.
            take: may raise FileError.
        """
        started = time.monotonic()
        files = self._find()
        with show_progress(console) as bar, Pipeline(files, answerer) as results:
            if STDIN not in self._arguments:
                count_in_background(bar, self._find())
            for path, result in results:
                failed = isinstance(result, FileError)
                try:
                    if isinstance(result, FileError):
                        raise result
                    take(path, result)
                    self._answered += 1
                except FileError as error:
                    failed = True
                    self._failed.append((path, error))
                bar.advance(failed=failed)
        self._seconds = time.monotonic() - started

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Tell on stderr; whether the exception is dealt with."""
        if isinstance(error, BrokenPipeError):
            # The interpreter would try again to write what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.exit_code = _NO_READER
            return True
        if error and not isinstance(error, (KeyboardInterrupt, StoppedError, ModelError, OSError)):
            return False
        self._tell_failed()
        if isinstance(error, KeyboardInterrupt):
            _tell("Interrupted; what was answered is written.")
            self.exit_code = _INTERRUPTED
        elif error:
            _tell(f"Error: {escape(_sentence(error))}")
            self.exit_code = _NONE_ANSWERED
        elif self._failed:
            self.exit_code = _SOME_FAILED if self._answered else _NONE_ANSWERED
        return True

    def _tell_failed(self) -> None:
        if self._failed:
            _tell(f"{len(self._failed)} of {len(self._failed) + self._answered} without an answer:")
        for path, error in self._failed:
            _tell(f"  {escape(path)}: {escape(str(error))}")  # a server's, perhaps
        if self._answered and self._seconds and sys.stderr.isatty():
            rate = self._answered / self._seconds
            images = "1 image" if self._answered == 1 else f"{self._answered} images"
            _tell(f"{images} in {self._seconds:.1f} s, {rate:.0f} images/s.")

    def _find(self) -> Iterator[Found]:
        return find_files(self._arguments, _open_stdin, self._separator)


def create_write(console: Console | None) -> Callable[[str], None]:
    """What writes text to stdout at once, above the bar where both share a terminal."""

    def write(text: str) -> None:
        if console:
            console.print(text, end="", markup=False, soft_wrap=True)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    return write


def _open_stdin() -> BinaryIO:
    return sys.stdin.buffer


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  # rich would wrap a path


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'The output'} cannot be written: {error.strerror}."
    return str(error)
