"""Finds and reads the files that are named by paths, folders, patterns, and a list on stdin."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from app.errors import AppError, BodyTooLargeError

STDIN: Final = "-"
SUFFIXES: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp")
"""Of the files that are taken from a folder; a file given by name may have any suffix."""
_CHUNK: Final = 65_536


class FileError(Exception):
    """One file has no answer; the text is one sentence that says why. The others go on."""

    @classmethod
    def of(cls, error: AppError) -> FileError:
        """Make one of the service's error, whose sentence is about a request's body."""
        return cls(error.detail.replace("The body", "The file"))


class StoppedError(Exception):
    """No file can be answered any more; the text is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to answer, or a path that leads to none, and why."""

    path: str
    error: FileError | None = None


def find_files(
    arguments: Iterable[str], open_list: Callable[[], BinaryIO], separator: bytes = b"\n"
) -> Iterator[Found]:
    """Find files lazily, in the order given; those of a folder in the order of their names.

    Args:
        arguments: paths of files and folders, patterns like `photos/**/*.jpg`, and `-` for a list
            of paths. The name of an existing file is not a pattern.
        open_list: opens the list when its turn comes.
        separator: of the list's paths, which are not patterns.
    """
    for argument in arguments:
        if argument == STDIN:
            for path in _split(open_list(), separator):
                yield from _expand(path)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield from _expand(argument)
        else:
            matches = sorted(glob.iglob(argument, recursive=True))  # noqa: PTH207  # takes absolute ones
            if not matches:
                yield Found(argument, FileError("No file matches this pattern."))
            for path in matches:
                if not Path(path).is_dir():  # `**` names the folders as well as what is in them
                    yield Found(path)


def read_file(path: str, max_bytes: int) -> bytes:
    """Read a file.

    Raises:
        FileError: it cannot be read, or is larger than `max_bytes`.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # a name with a NUL
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise FileError(f"The file cannot be read: {reason}.") from error
    if len(content) > max_bytes:
        raise FileError.of(BodyTooLargeError())
    return content


def _expand(path: str) -> Iterator[Found]:
    if not os.path.isdir(path):  # noqa: PTH112  # raises nothing: reading says what is wrong
        yield Found(path)
        return
    found = None
    for found in _walk(path):
        yield found
    if not found:
        yield Found(path, FileError(f"The folder has no file named {', '.join(SUFFIXES)}."))


def _walk(folder: str) -> Iterator[Found]:
    """Find the images in a folder and below it, but nothing hidden, and no folder behind a link."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(folder, FileError(f"The folder cannot be read: {error.strerror}."))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
            yield Found(entry.path)


def _split(file: BinaryIO, separator: bytes) -> Iterator[str]:
    """Yield paths as soon as they arrive: whoever writes the list may be slow."""
    rest = b""
    read = getattr(file, "read1", file.read)
    while chunk := read(_CHUNK):
        *paths, rest = (rest + chunk).split(separator)
        yield from (os.fsdecode(path) for path in paths if path)
    if rest:
        yield os.fsdecode(rest)
