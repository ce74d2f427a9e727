from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from app.cli.bulk.files import FileError, find_files, read_file


def find(*arguments: str | Path, stdin: bytes = b"", null: bool = False) -> list[str]:
    found = find_files(map(str, arguments), lambda: BytesIO(stdin), b"\0" if null else b"\n")
    return [f"{one.path}: {one.error}" if one.error else one.path for one in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png", "deep/er/c.webp", ".hidden/d.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_its_images_in_order_and_nothing_hidden(folder: Path) -> None:
    names = [os.path.relpath(path, folder) for path in find(folder)]
    assert names == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_a_folder_that_links_to_itself_is_walked_once(folder: Path) -> None:
    (folder / "deep" / "again.jpg").symlink_to(folder, target_is_directory=True)
    assert len(find(folder)) == 3


def test_a_named_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert find(folder / "notes.txt") == [str(folder / "notes.txt")]


def test_a_pattern_gives_the_files_it_matches(folder: Path) -> None:
    assert find(f"{folder}/**/*.*") == [
        str(folder / name) for name in ("a.png", "b.JPG", "deep/er/c.webp", "notes.txt")
    ]


def test_what_exists_under_its_very_name_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "[ab].jpg").touch()
    (tmp_path / "a.jpg").touch()
    assert find(tmp_path / "[ab].jpg") == [str(tmp_path / "[ab].jpg")]


def test_what_gives_no_file_says_so(tmp_path: Path) -> None:
    assert find(f"{tmp_path}/*.jpg") == [f"{tmp_path}/*.jpg: No file matches this pattern."]
    assert find(tmp_path)[0].startswith(f"{tmp_path}: The folder has no file named .jpg,")


def test_a_list_holds_any_name_but_no_pattern() -> None:
    assert find("-", stdin=b"a b.jpg\n\n*.jpg\nlast") == ["a b.jpg", "*.jpg", "last"]
    assert find("-", stdin=b"a\nb.jpg\0\xff.jpg\0", null=True) == ["a\nb.jpg", "\udcff.jpg"]


def test_a_list_is_answered_while_it_is_written() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as file:
        found = find_files(["-"], lambda: stdin)
        file.write(b"first\nsec")
        assert next(found).path == "first"
        file.write(b"ond\n")
        assert next(found).path == "second"
        file.close()
        assert list(found) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "The file cannot be read: No such file or directory."),
        (".", "The file cannot be read: Is a directory."),
        ("a\0b", "The file cannot be read: its name is not valid."),
        ("large", "The file has more bytes than allowed"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(FileError, match=sentence):
        read_file(f"{tmp_path}/{name}", max_bytes=10)
    assert read_file(str(tmp_path / "large"), max_bytes=11) == bytes(11)
