"""The errors that `model` raises."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_TEXT = 2000  # characters; a damaged file can hold a name of many megabytes


class ModelError(Exception):
    """Base of all errors of `model`; its text is for the operator, not for a client."""


class InvalidCheckpointError(ModelError):
    """A checkpoint file is missing, damaged, or of another kind.

    Its text is one printable line, whatever names the file holds.
    """

    def __init__(self, text: str) -> None:
        printable = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
        super().__init__("".join(islice(printable, _MAX_TEXT)))


class UnsupportedModelError(ModelError):
    """The checkpoint is sound, but the engine has no such operation."""


class EngineUnavailableError(ModelError):
    """The engine's package is not installed, or its device is not there."""


class SelfTestError(ModelError):
    """The engine runs, but gives wrong answers."""


class QuantizationError(ModelError):
    """A checkpoint is not quantized: there are too few images, or the answers differ."""


class ImageError(ModelError):
    """The image is rejected."""


class UnsupportedImageFormatError(ImageError):
    """The bytes begin like no accepted format."""


class InvalidImageError(ImageError):
    """The bytes begin like an accepted format, but are damaged."""


class ImageTruncatedError(ImageError):
    """The image ends before its last row."""


class ImageTooLargeError(ImageError):
    """The image has too many pixels, or too long a side."""


class ImageTooComplexError(ImageError):
    """The image is small, but decoding it would take too long."""


class AbandonedError(ModelError):
    """Nobody waits for the image any longer, so none of it was decoded."""


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file as `InvalidCheckpointError`, with its path in front."""
    try:
        yield
    except OSError as error:
        raise InvalidCheckpointError(f"{path}: {error.strerror}") from error
    except InvalidCheckpointError as error:
        raise InvalidCheckpointError(f"{path}: {error}") from error
