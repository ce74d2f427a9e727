from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.checkpoints.labels import IMAGENET_PATH, Label, create_labels, load_imagenet_labels
from tests.model.sources.refusal import refused

if TYPE_CHECKING:
    from pathlib import Path

    from model.checkpoints.checkpoint import Checkpoint


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "labels.tsv"


def refuse(table: Path) -> None:
    assert refused(lambda: load_imagenet_labels(table), f"{table}: ")


def test_there_are_1001_classes_in_order() -> None:
    labels = load_imagenet_labels()
    assert [label.class_id for label in labels] == list(range(1001))
    assert all(label.label.strip() == label.label != "" for label in labels)


def test_class_0_is_the_background_and_the_only_one_without_a_wordnet_id() -> None:
    background, *classes = load_imagenet_labels()
    assert background == Label(0, None, "background")
    assert len({label.wnid for label in classes}) == 1000
    assert all(label.wnid and label.wnid[0] == "n" and len(label.wnid) == 9 for label in classes)


def test_class_282_is_the_tabby_cat() -> None:
    tabby = load_imagenet_labels()[282]
    assert tabby.wnid == "n02123045"
    assert tabby.label.startswith("tabby")


def test_the_default_checkpoint_has_wordnet_ids(default_checkpoint: Checkpoint) -> None:
    assert default_checkpoint.labels == load_imagenet_labels()


def test_other_labels_have_no_wordnet_ids() -> None:
    assert create_labels({1: "dog", 0: "cat"}) == (Label(0, None, "cat"), Label(1, None, "dog"))


def test_1001_other_labels_have_no_wordnet_ids() -> None:
    labels = create_labels({class_id: f"LABEL_{class_id}" for class_id in range(1001)})
    assert len(labels) == 1001
    assert not any(label.wnid for label in labels)


@pytest.mark.parametrize("changed", [1, 11, 12])
def test_imagenet_with_other_texts_for_at_most_11_classes_keeps_its_wordnet_ids(
    changed: int,
) -> None:
    imagenet = load_imagenet_labels()
    texts = [label.label for label in imagenet]
    texts[1 : changed + 1] = [f"other {n}" for n in range(changed)]
    labels = create_labels(dict(enumerate(texts)))
    assert [label.label for label in labels] == texts
    assert [label.wnid for label in labels] == [
        one.wnid if changed < 12 else None for one in imagenet
    ]


def test_imagenet_without_the_background_at_0_has_no_wordnet_ids() -> None:
    texts = {label.class_id: label.label for label in load_imagenet_labels()}
    assert not any(label.wnid for label in create_labels(texts | {0: "nothing"}))


def test_no_classes_have_no_labels() -> None:
    assert create_labels({}) == ()


def test_a_missing_table_is_refused(table: Path) -> None:
    refuse(table)


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1002])
def test_a_table_of_another_length_is_refused(table: Path, rows: int) -> None:
    header, *lines = IMAGENET_PATH.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([header, *[*lines, "1001\tn1\tone more"][:rows]]), encoding="utf-8")
    refuse(table)


def test_a_table_out_of_order_is_refused(table: Path) -> None:
    header, *lines = IMAGENET_PATH.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([header, *lines[::-1]]), encoding="utf-8")
    refuse(table)


def test_a_table_without_the_wordnet_ids_is_refused(table: Path) -> None:
    lines = IMAGENET_PATH.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    table.write_text("\n".join(f"{row[0]}\t{row[2]}" for row in pairs), encoding="utf-8")
    refuse(table)


def test_a_table_with_a_short_row_is_refused(table: Path) -> None:
    lines = IMAGENET_PATH.read_text(encoding="utf-8").splitlines()
    lines[-1] = "1000"
    table.write_text("\n".join(lines), encoding="utf-8")
    refuse(table)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0", b"a\0b"], ids=["empty", "jpeg", "nul"]
)
def test_a_table_that_is_no_text_is_refused(table: Path, content: bytes) -> None:
    table.write_bytes(content)
    refuse(table)
