"""What can go wrong with one file, and with all of them."""

from __future__ import annotations

from app.errors import AppError


class FileError(Exception):
    """One file has no answer; its text is one sentence that says why. The others go on."""

    @classmethod
    def of(cls, error: AppError) -> FileError:
        """The service's sentence, said of a file."""
        return cls(error.detail.replace("The body", "The file"))


class StoppedError(Exception):
    """No file can be answered any more; its text is one sentence that says why."""
