"""Reads a released archive (`.tgz`) in memory: nothing of it is written or executed."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from model.errors import InvalidCheckpointError

if TYPE_CHECKING:
    from pathlib import Path

GZIP_MAGIC = b"\x1f\x8b"

_MIB = 1 << 20
_MAX_MEMBERS = 100
_MAX_MEMBER_BYTES = 64 * _MIB
_MAX_INFLATED_BYTES = 256 * _MIB
_DAMAGE = (
    EOFError,
    OSError,
    RecursionError,  # one extended header after the other
    ValueError,
    zlib.error,
    tarfile.TarError,
)
"""What the standard library raises on a damaged archive."""

_GRAPH, _TFLITE = ".pb", ".tflite"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    name: str
    data: bytes


def read_model(source: Path, data: bytes) -> Member:
    """Read the one model of an archive: its frozen graph, or else its TensorFlow Lite file.

    A graph holds BatchNorm as it was trained. If it was trained for quantization, the TensorFlow
    Lite file goes first: it holds the integers that were released.

    Args:
        source: named in errors.
        data: the compressed archive.

    Raises:
        InvalidCheckpointError: the archive is damaged, too large, holds anything but regular files
            below its root, or has no model or several.
    """
    members = _read_members(source, data)
    graphs = [member for member in members if member.name.endswith(_GRAPH)]
    graphs = [member for member in graphs if "frozen" in member.name] or graphs
    lite = [member for member in members if member.name.endswith(_TFLITE)]
    if lite and (not graphs or b"FakeQuantWithMinMax" in graphs[0].data):
        graphs = lite
    if not graphs:
        raise InvalidCheckpointError(
            f"{source}: holds neither a frozen graph (.pb) nor a TensorFlow Lite file (.tflite); "
            "a training checkpoint (.ckpt) is not read"
        )
    if len(graphs) > 1:
        names = ", ".join(repr(member.name) for member in graphs)
        raise InvalidCheckpointError(f"{source}: holds several models: {names}")
    return graphs[0]


def _read_members(source: Path, data: bytes) -> list[Member]:
    """Check every member to the end of the archive; return those that can be models."""
    models = []
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(data)) as file,
            _Inflating(source, file) as inflating,
            tarfile.open(fileobj=inflating, mode="r|") as archive,
        ):
            for count, member in enumerate(archive, start=1):
                if count > _MAX_MEMBERS:
                    raise InvalidCheckpointError(f"{source}: has more than {_MAX_MEMBERS} members")
                _check_member(source, member)
                if member.name.endswith((_GRAPH, _TFLITE)):
                    models.append(_read_member(source, archive, member))
            while inflating.read(_MIB):  # up to gzip's own sum at the end
                pass
    except _DAMAGE as error:
        raise InvalidCheckpointError(f"{source}: is a damaged or cut archive") from error
    return models


def _check_member(source: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise InvalidCheckpointError(f"{source}: {member.name!r} is a path outside the archive")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise InvalidCheckpointError(f"{source}: {member.name!r} is not a regular file")


def _read_member(source: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    if member.size > _MAX_MEMBER_BYTES:
        raise InvalidCheckpointError(
            f"{source}: {member.name!r} is larger than {_MAX_MEMBER_BYTES // _MIB} MiB"
        )
    file = archive.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) != member.size:
        raise InvalidCheckpointError(f"{source}: {member.name!r} is cut")
    return Member(str(PurePosixPath(member.name)), data)


class _Inflating(io.RawIOBase):
    """Inflates up to a bound: a small archive can inflate to any size."""

    def __init__(self, source: Path, file: gzip.GzipFile) -> None:
        self._source = source
        self._file = file
        self._left = _MAX_INFLATED_BYTES

    def read(self, size: int = -1) -> bytes:
        """Inflate at most `size` more bytes."""
        data = self._file.read(min(size, _MIB) if size >= 0 else _MIB)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidCheckpointError(
                f"{self._source}: inflates to more than {_MAX_INFLATED_BYTES // _MIB} MiB"
            )
        return data
