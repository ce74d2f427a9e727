"""What can go wrong below HTTP.

ModelError
+-- InvalidCheckpointError     a file is missing, damaged, or not what it should be
+-- UnsupportedModelError      a sound checkpoint that this engine cannot run
+-- EngineUnavailableError     the engine's package or device is not there
+-- SelfTestError              the engine does not give valid answers
+-- ImageError                 bytes that are not a picture we accept
|   +-- UnsupportedImageFormatError
|   +-- InvalidImageError
|   +-- ImageTruncatedError
|   +-- ImageTooLargeError
|   +-- ImageTooComplexError
+-- AbandonedError             nobody waits for the picture any more
"""

from itertools import islice

_MAX_TEXT = 2000  # characters; a damaged file can hold a name of many megabytes


class ModelError(Exception):
    """Anything that `model` raises on purpose; its text is for the operator, not for a client."""


class InvalidCheckpointError(ModelError):
    """A checkpoint file is missing, damaged, or not what it should be.

    Its text is one printable line, whatever names the file holds.
    """

    def __init__(self, text: str) -> None:
        printable = (one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
        super().__init__("".join(islice(printable, _MAX_TEXT)))


class UnsupportedModelError(ModelError):
    """The checkpoint is sound, but the engine has no such operation."""


class EngineUnavailableError(ModelError):
    """The engine's package is not installed, or its device is not there."""


class SelfTestError(ModelError):
    """The engine runs, but its answers are not valid."""


class ImageError(ModelError):
    """The bytes are not a picture that this service accepts."""


class UnsupportedImageFormatError(ImageError):
    """The bytes do not begin like any allowed format."""


class InvalidImageError(ImageError):
    """The bytes begin like an allowed format, but are not a sound picture."""


class ImageTruncatedError(ImageError):
    """The picture ends before its last row."""


class ImageTooLargeError(ImageError):
    """The picture has too many pixels, or too long a side."""


class ImageTooComplexError(ImageError):
    """The picture is small, but made so that decoding it takes too long."""


class AbandonedError(ModelError):
    """Nobody waits for the picture any more, and none of it was decoded."""
