"""The names and WordNet ids of the classes."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from model.errors import InvalidCheckpointError, named_in_errors

IMAGENET_PATH = Path(__file__).parents[1] / "weights" / "imagenet_labels.tsv"
IMAGENET_CLASSES = 1001

_IMAGENET_AGREEMENT = 990


@dataclass(frozen=True, slots=True)
class Label:
    """One class; `wnid` is its WordNet id (`n02123045`), if it has one."""

    class_id: int
    wnid: str | None
    label: str


@cache
def load_imagenet_labels(path: Path = IMAGENET_PATH) -> tuple[Label, ...]:
    """Read the 1001 classes of Google's checkpoints; class 0 is `background`.

    Raises:
        InvalidCheckpointError: the table is missing or has other than 1001 rows in order.
    """
    try:
        with named_in_errors(path), path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidCheckpointError(f"{path}: is not a table") from error
    complete = all(row.get("wnid") is not None and row.get("label") for row in rows)
    class_ids = [row.get("class_id") for row in rows]
    if not complete or class_ids != [str(n) for n in range(IMAGENET_CLASSES)]:
        raise InvalidCheckpointError(f"{path}: is not the table of classes 0 to 1000")
    return tuple(Label(int(row["class_id"]), row["wnid"] or None, row["label"]) for row in rows)


def name_classes(count: int) -> dict[int, str]:
    """Name the classes of a file that holds no names: ImageNet's by their number, or LABEL_0 ..."""
    if count == IMAGENET_CLASSES:
        return {label.class_id: label.label for label in load_imagenet_labels()}
    return {class_id: f"LABEL_{class_id}" for class_id in range(count)}


def create_labels(id2label: dict[int, str]) -> tuple[Label, ...]:
    """Label a checkpoint's classes; those of ImageNet, recognized by their names, get WordNet ids.

    Published lists differ in the text of a few classes, so most names decide for all.
    """
    labels = tuple(Label(class_id, None, id2label[class_id]) for class_id in range(len(id2label)))
    if len(labels) == IMAGENET_CLASSES:
        imagenet = load_imagenet_labels()
        pairs = list(zip(labels, imagenet, strict=True))
        same = sum(label.label == known.label for label, known in pairs)
        if labels[0].label == imagenet[0].label and same >= _IMAGENET_AGREEMENT:
            return tuple(replace(label, wnid=known.wnid) for label, known in pairs)
    return labels
