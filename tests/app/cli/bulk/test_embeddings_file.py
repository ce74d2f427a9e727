from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from app.cli.bulk.embeddings_file import EmbeddingsFile
from app.cli.bulk.files import FileError


def row(value: float, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full(shape, value, np.float32)


def test_one_layer_is_called_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"of yesterday")
    with EmbeddingsFile(path) as file:
        for number in range(3):
            file.add(f"{number}\udcff\n.jpg", {"pooled": row(number, 4)})
        assert path.read_bytes() == b"of yesterday"
    arrays = np.load(path, allow_pickle=False)
    assert set(arrays.files) == {"paths", "embeddings"}
    assert arrays["paths"].tolist() == [f"{number}\udcff\n.jpg" for number in range(3)]
    assert np.array_equal(arrays["embeddings"], np.stack([row(number, 4) for number in range(3)]))


def test_several_layers_have_their_own_names_shapes_and_dtype(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with EmbeddingsFile(path) as file:
        file.add("a", {"5": row(1, 2, 2, 3).astype(np.float16), "6": row(2, 8).astype(np.float16)})
    arrays = np.load(path, allow_pickle=False)
    assert arrays["5"].shape == (1, 2, 2, 3)
    assert arrays["6"].shape == (1, 8)
    assert arrays["5"].dtype == np.float16


def test_what_was_added_before_an_error_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with suppress(KeyboardInterrupt), EmbeddingsFile(path) as file:
        file.add("a", {"pooled": row(1, 4)})
        raise KeyboardInterrupt
    assert np.load(path)["paths"].tolist() == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_row_there_is_no_file(tmp_path: Path) -> None:
    with EmbeddingsFile(tmp_path / "x.npz"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_another_shape_is_refused_alone(tmp_path: Path) -> None:
    with EmbeddingsFile(tmp_path / "x.npz") as file:
        file.add("a", {"pooled": row(1, 4)})
        with pytest.raises(FileError, match="differs in shape"):
            file.add("b", {"pooled": row(1, 5)})
        file.add("c", {"pooled": row(1, 4)})
    assert np.load(tmp_path / "x.npz")["embeddings"].shape == (2, 4)
