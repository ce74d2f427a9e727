"""Writes embeddings to one `.npz` file as they come."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from app.cli.bulk.files import FileError


class EmbeddingsFile:
    """Use as a context manager: leaving it writes what was added, also after an error.

    The file has `paths`, (n,), and `embeddings`, (n, ...): one row an image that was answered, in
    the order given. With several layers, each is an array under its own name instead. The file
    appears once it is complete; until then the rows are in unnamed files beside it.

    Args:
        path: of the file; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths: list[str] = []
        self._first: Mapping[str, NDArray[np.float32]] = {}
        self._rows: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Check that the folder can be written to.

        Raises:
            OSError: it cannot.
        """
        self._partial = tempfile.NamedTemporaryFile(  # the stack closes it
            dir=self._path.parent, prefix=f".{self._path.name}.", delete=False
        )
        self._stack.callback(Path(self._partial.name).unlink, missing_ok=True)
        self._stack.enter_context(self._partial)
        return self

    def add(self, path: str, layers: Mapping[str, NDArray[np.float32]]) -> None:
        """Add one image's features, by layer; every image has the same layers and shapes.

        Raises:
            FileError: they differ from those of the images before.
            OSError: they cannot be written.
        """
        if not self._paths:
            self._first = layers
            for name in layers:
                file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115  # the stack closes it
                self._rows[name] = self._stack.enter_context(file)
        elif _shapes(layers) != _shapes(self._first):
            raise FileError("The embedding differs in shape from those before.")
        for name, array in layers.items():
            self._rows[name].write(array.tobytes())
        self._paths.append(path)

    def __exit__(self, *_: object) -> None:
        """Write the file if there is any row, and remove temporary files.

        Raises:
            OSError: it cannot be written.
        """
        with self._stack:
            if self._paths:
                self._write()

    def _write(self) -> None:
        with zipfile.ZipFile(self._partial, "w") as archive:
            with archive.open("paths.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.array(self._paths), allow_pickle=False)
            for name, rows in self._rows.items():
                rows.seek(0)
                member_name = "embeddings" if len(self._rows) == 1 else name
                first = self._first[name]
                header = {
                    "descr": npy.dtype_to_descr(first.dtype),
                    "fortran_order": False,
                    "shape": (len(self._paths), *first.shape),
                }
                with archive.open(f"{member_name}.npy", "w", force_zip64=True) as member:
                    npy.write_array_header_1_0(member, header)
                    shutil.copyfileobj(rows, member, 1024 * 1024)
        self._partial.flush()
        # As an ordinary new file would be: a temporary one is its owner's alone.
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(self._partial.fileno(), 0o666 & ~umask)
        Path(self._partial.name).replace(self._path)


def _shapes(layers: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in layers.items()}
