"""Reads a released archive (`.tgz`) in memory: nothing of it is written or executed."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import PurePosixPath

from model.errors import InvalidCheckpointError

GZIP_MAGIC = b"\x1f\x8b"

_MIB = 1 << 20
_MAX_MEMBERS = 100
_MAX_MEMBER_BYTES = 64 * _MIB
_MAX_INFLATED_BYTES = 256 * _MIB
_DAMAGE = (  # what the standard library raises
    EOFError,
    OSError,
    RecursionError,  # one extended header after the other
    ValueError,
    zlib.error,
    tarfile.TarError,
)
_GRAPH, _TFLITE = ".pb", ".tflite"


def read_model(data: bytes) -> tuple[str, bytes]:
    """The name and content of an archive's one model: its frozen graph, or its `.tflite` file.

    A graph holds BatchNorm as it was trained. If it was trained for quantization, the TensorFlow
    Lite file goes first: it holds the integers that were released.

    Raises:
        InvalidCheckpointError: the archive is damaged, too large, holds anything but regular files
            below its root, or has no model or several.
    """
    try:
        members = _read_members(_inflate(data))
    except _DAMAGE as error:
        raise InvalidCheckpointError("is a damaged or cut archive") from error
    models = [member for member in members if member[0].endswith(_GRAPH)]
    models = [member for member in models if "frozen" in member[0]] or models
    lite = [member for member in members if member[0].endswith(_TFLITE)]
    if lite and (not models or b"FakeQuantWithMinMax" in models[0][1]):
        models = lite
    if not models:
        raise InvalidCheckpointError(
            "holds neither a frozen graph (.pb) nor a TensorFlow Lite file (.tflite); "
            "a training checkpoint (.ckpt) is not read"
        )
    if len(models) > 1:
        names = ", ".join(repr(name) for name, _ in models)
        raise InvalidCheckpointError(f"holds several models: {names}")
    return models[0]


def _inflate(data: bytes) -> io.BytesIO:
    """Inflate up to a bound: a small archive can inflate to any size."""
    inflated = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while chunk := file.read(_MIB):
            if inflated.tell() + len(chunk) > _MAX_INFLATED_BYTES:
                raise InvalidCheckpointError(
                    f"inflates to more than {_MAX_INFLATED_BYTES // _MIB} MiB"
                )
            inflated.write(chunk)
    inflated.seek(0)
    return inflated


def _read_members(inflated: io.BytesIO) -> list[tuple[str, bytes]]:
    """Check every member to the end of the archive; return those that can be models."""
    models = []
    with tarfile.open(fileobj=inflated, mode="r:") as archive:
        for count, member in enumerate(archive, start=1):
            if count > _MAX_MEMBERS:
                raise InvalidCheckpointError(f"has more than {_MAX_MEMBERS} members")
            _check_member(member)
            if member.name.endswith((_GRAPH, _TFLITE)):
                content = inflated.getbuffer()[member.offset_data :][: member.size]
                models.append((str(PurePosixPath(member.name)), bytes(content)))
    return models


def _check_member(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise InvalidCheckpointError(f"{member.name!r} is a path outside the archive")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise InvalidCheckpointError(f"{member.name!r} is not a regular file")
    if member.name.endswith((_GRAPH, _TFLITE)) and member.size > _MAX_MEMBER_BYTES:
        raise InvalidCheckpointError(
            f"{member.name!r} is larger than {_MAX_MEMBER_BYTES // _MIB} MiB"
        )
