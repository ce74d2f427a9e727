from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint, load_checkpoint
from model.errors import InvalidCheckpointError, ModelError
from model.sources.load import convert_model, default_name, load_model
from tests.model.sources.frozen_graph.graphs import (
    create_archive,
    create_graph_def,
    create_released,
    release,
)
from tests.model.sources.refusal import refused
from tests.model.twins import tiny_config

NAME = "mobilenet_v1_0.25_128"


@pytest.fixture(scope="module")
def original() -> Checkpoint:
    return create_released()


@pytest.fixture
def archive(tmp_path: Path, original: Checkpoint) -> Path:
    path = tmp_path / f"{NAME}.tgz"
    path.write_bytes(create_archive(release(NAME, create_graph_def(original).SerializeToString())))
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def pickled(tiny_directory: Path) -> Path:
    """A directory whose weights are a pickle that leaves a trace when it is opened."""
    for name in ("model.safetensors", "SHA256SUMS"):
        (tiny_directory / name).unlink()
    trace = tiny_directory / "executed"
    payload = f"cos\nmkdir\n(V{trace}\ntR.".encode()  # os.mkdir(trace)
    (tiny_directory / "pytorch_model.bin").write_bytes(payload)
    return tiny_directory


def refusal(source: str) -> str:
    return refused(lambda: load_model(source), f"{source}: ")


def test_a_directory_is_loaded(tiny_directory: Path) -> None:
    assert load_model(str(tiny_directory)).name == "tiny"
    assert load_model(str(tiny_directory), "pets").name == "pets"


def test_a_packaged_checkpoint_is_loaded_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = load_checkpoint(DEFAULT_DIRECTORY).digest
    assert load_model(DEFAULT_DIRECTORY.name).digest == expected


def test_what_is_on_disk_goes_before_what_is_packaged(
    tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_directory.rename(tiny_directory.parent / DEFAULT_DIRECTORY.name)
    monkeypatch.chdir(tiny_directory.parent)
    assert load_model(DEFAULT_DIRECTORY.name).config == tiny_config()


def test_a_directory_that_looks_like_an_id_is_no_id(
    tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_directory.parent.parent)
    source = f"{tiny_directory.parent.name}/tiny"
    assert load_model(source).config == tiny_config()


def test_a_file_is_imported_and_nothing_is_left_behind(
    archive: Path, temporary: Path, original: Checkpoint
) -> None:
    loaded = load_model(str(archive))
    assert (loaded.name, loaded.config) == (NAME, original.config)
    for name, value in original.weights.items():
        assert np.array_equal(loaded.weights[name], value)
    assert list(temporary.iterdir()) == []
    assert sorted(archive.parent.iterdir()) == [archive, temporary]


def test_a_file_that_is_refused_leaves_nothing_behind(archive: Path, temporary: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1])
    assert refusal(str(archive)) == "is a damaged or cut archive"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "source",
    ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "a/b@", "../a/b", "~/a", "a b/c", "a/b\n"],
)
def test_what_is_nothing_is_refused(source: str) -> None:
    with pytest.raises(InvalidCheckpointError, match="is no directory, no file, and no Hugging"):
        load_model(source)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/weights/pets_v2/", "pets_v2"),
        ("mobilenet_v1_0.5_160.tgz", "mobilenet_v1_0.5_160"),
        ("a/mobilenet_v1_0.5_160.tar.gz", "mobilenet_v1_0.5_160"),
        ("mobilenet_v1_0.5_160_frozen.pb", "mobilenet_v1_0.5_160_frozen"),
        ("google/mobilenet_v1_0.75_192", "mobilenet_v1_0.75_192"),
        ("google/mobilenet_v1_0.75_192@refs/pr/1", "mobilenet_v1_0.75_192"),
    ],
)
def test_a_model_is_called_what_its_source_is_called(source: str, name: str) -> None:
    assert default_name(source) == name


def test_the_current_directory_has_its_own_name(
    tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_directory)
    assert default_name(".") == "tiny"


def test_a_pickle_is_refused_unopened(pickled: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match="is missing; a pickle"):
        load_model(str(pickled))
    assert not (pickled / "executed").exists()


def test_a_pickle_beside_safetensors_is_not_opened(tiny_directory: Path) -> None:
    (tiny_directory / "pytorch_model.bin").write_bytes(b"whatever")
    assert load_model(str(tiny_directory)).config == tiny_config()


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[hub\]'"):
        load_model("google/mobilenet_v1_0.75_192")


def test_a_directory_is_converted_as_it_is(tiny_directory: Path, tmp_path: Path) -> None:
    convert_model(str(tiny_directory), tmp_path / "again")
    for path in tiny_directory.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
