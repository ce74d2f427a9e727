from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.errors import InvalidCheckpointError
from model.sources.archive import read_model
from model.sources.load import convert_model
from tests.model.sources.frozen_graph.graphs import (
    create_archive,
    create_graph_def,
    create_released,
    release,
)
from tests.model.sources.refusal import refused
from tests.model.sources.released import released

NAME = "mobilenet_v1_0.25_128"
MIB = 1 << 20


@pytest.fixture(scope="module")
def graph() -> bytes:
    data: bytes = create_graph_def(create_released()).SerializeToString()
    return data


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.tgz"


def refusal(source: Path, data: bytes) -> str:
    """Write an archive, see it refused with nothing written, and return what is said of it."""
    source.write_bytes(data)
    said = refused(lambda: convert_model(str(source), source.parent / "imported"), str(source))
    assert list(source.parent.iterdir()) == [source]
    return said


def with_member(graph: bytes, member: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """A sound archive with one more member after the graph."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as opened:
        frozen = tarfile.TarInfo(f"{NAME}_frozen.pb")
        frozen.size = len(graph)
        opened.addfile(frozen, io.BytesIO(graph))
        opened.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("name", [f"{NAME}.tgz", "download", "model.pb"])
def test_a_released_archive_is_told_by_its_content(tmp_path: Path, graph: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(create_archive(release(NAME, graph)))
    convert_model(str(tmp_path / name), tmp_path / "imported")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "imported"])
    assert load_checkpoint(tmp_path / "imported").config == create_released().config


@pytest.mark.thorough
def test_the_released_graph_in_an_archive_becomes_the_default_checkpoint(tmp_path: Path) -> None:
    name = "mobilenet_v1_1.0_224"
    frozen = released(f"{name}_frozen.pb")
    (tmp_path / "x.tar.gz").write_bytes(create_archive(release(name, frozen.read_bytes())))
    convert_model(str(tmp_path / "x.tar.gz"), tmp_path / "imported")
    for path in (tmp_path / "imported").iterdir():
        assert path.read_bytes() == (DEFAULT_DIRECTORY / path.name).read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999, 0.99999])
def test_a_truncated_download_is_refused(source: Path, graph: bytes, share: float) -> None:
    data = create_archive(release(NAME, graph))
    cut = min(int(len(data) * share), len(data) - 1)
    assert refusal(source, data[:cut]) == ": is a damaged or cut archive"


@pytest.mark.parametrize("place", [0.3, 0.99])
def test_one_flipped_bit_is_refused(source: Path, graph: bytes, place: float) -> None:
    data = bytearray(create_archive(release(NAME, graph)))
    data[int(len(data) * place)] ^= 16
    assert "damaged" in refusal(source, bytes(data))


@pytest.mark.parametrize("data", [b"", b"hello", bytes(10_240)], ids=["empty", "text", "zeros"])
def test_gzip_of_something_else_is_refused(source: Path, data: bytes) -> None:
    assert refusal(source, gzip.compress(data))


@pytest.mark.parametrize(
    "name", ["../outside.pb", "/etc/outside.pb", "a/../../outside.pb", "..\\outside.pb"]
)
def test_a_path_outside_the_archive_is_refused(source: Path, graph: bytes, name: str) -> None:
    text = refusal(source, with_member(graph, tarfile.TarInfo(name)))
    assert text == f": {name!r} is a path outside the archive"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symlink", "hard-link", "character-device", "block-device", "pipe"],
)
def test_a_member_that_is_no_regular_file_is_refused(
    source: Path, graph: bytes, kind: bytes
) -> None:
    member = tarfile.TarInfo("model_frozen.pb")
    member.type, member.linkname = kind, "/etc/passwd"
    assert refusal(source, with_member(graph, member)).endswith("is not a regular file")


def test_a_bomb_is_stopped_while_it_inflates(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated: list[int] = []
    read = gzip.GzipFile.read

    def record(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = read(file, size)
        inflated.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", record)
    header = tarfile.TarInfo("weights.bin")
    header.size = 2048 * MIB
    megabyte = gzip.compress(bytes(MIB))  # gzip allows streams one after the other
    data = gzip.compress(header.tobuf()) + megabyte * 2048
    assert len(data) < 4 * MIB
    assert refusal(source, data) == ": inflates to more than 256 MiB"
    assert max(inflated) <= MIB
    assert sum(inflated) <= 257 * MIB


def test_a_member_larger_than_any_model_is_refused_unread(source: Path) -> None:
    header = tarfile.TarInfo("model_frozen.pb")
    header.size = 65 * MIB
    assert "is larger than 64 MiB" in refusal(source, gzip.compress(header.tobuf()))


def test_a_sparse_member_is_refused(source: Path) -> None:
    header = tarfile.TarInfo("model_frozen.pb")
    header.type = tarfile.GNUTYPE_SPARSE
    assert refusal(source, gzip.compress(header.tobuf() + bytes(1024)))


def test_extended_headers_without_end_are_refused(source: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    data = gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    assert refusal(source, data) == ": is a damaged or cut archive"


@pytest.mark.thorough
@given(changes=st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), min_size=1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_headers_of_any_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(gzip.decompress(create_archive({"a_frozen.pb": b"x", "b.txt": b"y"})))
    for place, value in changes:
        data[place] = value
    for start in (0, 1024):  # with the sums that tar looks at
        header = data[start : start + 512]
        total = 8 * ord(" ") + sum(header[:148]) + sum(header[156:])
        data[start + 148 : start + 156] = b"%06o\0 " % total
    with suppress(InvalidCheckpointError):
        name, content = read_model(gzip.compress(bytes(data)))
        assert name.endswith((".pb", ".tflite"))
        assert content in data


@pytest.mark.thorough
def test_the_integers_of_a_released_archive_are_imported(source: Path) -> None:
    name = "mobilenet_v1_0.25_128_quant.tflite"
    source.write_bytes(create_archive({name: released(name).read_bytes()}))
    convert_model(str(source), source.parent / "imported")
    imported = load_checkpoint(source.parent / "imported")
    assert imported.config.depth_multiplier == 0.25
    assert imported.quantization


def test_too_many_members_are_refused(source: Path) -> None:
    data = create_archive({f"{number}.txt": b"" for number in range(101)})
    assert refusal(source, data) == ": has more than 100 members"


def test_an_archive_without_a_model_is_refused(source: Path) -> None:
    data = create_archive({"mobilenet_v1_1.0_224.ckpt.index": b"index"})
    assert "neither a frozen graph (.pb) nor a TensorFlow Lite" in refusal(source, data)


def test_an_archive_with_several_models_is_refused(source: Path, graph: bytes) -> None:
    data = create_archive({"a_frozen.pb": graph, "b_frozen.pb": graph})
    assert refusal(source, data) == ": holds several models: 'a_frozen.pb', 'b_frozen.pb'"


def test_the_frozen_graph_goes_before_others(graph: bytes) -> None:
    members = {"a/saved_model.pb": b"", "a/frozen_inference_graph.pb": graph, "a/b.tflite": b""}
    assert read_model(create_archive(members)) == ("a/frozen_inference_graph.pb", graph)


def test_of_a_quantized_archive_the_integers_go_before_the_graph() -> None:
    members = {"a_frozen.pb": b"..FakeQuantWithMinMaxVars..", "a.tflite": b"\0\0\0\0TFL3"}
    assert read_model(create_archive(members)) == ("a.tflite", members["a.tflite"])


def test_a_network_in_an_archive_that_is_another_one_is_refused(source: Path) -> None:
    data = create_archive({"ssd/frozen_inference_graph.pb": b"hello"})
    assert refusal(source, data).startswith("/ssd/frozen_inference_graph.pb: is not a TensorFlow")
