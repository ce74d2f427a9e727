from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.errors import QuantizationError
from model.images.preprocessor_config import Preprocessing
from model.quantization.images import LEAST_IMAGES, read_images
from tests.model.quantization.folders import write_images

if TYPE_CHECKING:
    from pathlib import Path

PREPROCESSING = Preprocessing.model_validate({"size": 40, "crop_size": 32})


def test_one_in_four_is_held_out_whatever_the_names_and_the_order(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "a", LEAST_IMAGES)
    first = read_images(paths, PREPROCESSING)
    assert first.calibration.shape == (30, 32, 32, 3)
    assert first.held_out.shape == (10, 32, 32, 3)
    renamed = [path.rename(tmp_path / f"{number}.png") for number, path in enumerate(paths)]
    second = read_images(reversed(renamed), PREPROCESSING)
    assert np.array_equal(first.held_out, second.held_out)
    assert np.array_equal(first.calibration, second.calibration)


def test_a_copy_counts_once_so_that_no_image_is_on_both_sides(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "a", LEAST_IMAGES)
    copies = write_images(tmp_path / "b", LEAST_IMAGES)
    assert len(read_images([*paths, *copies], PREPROCESSING).held_out) == 10


def test_what_is_no_image_is_counted_and_left_out(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "a", LEAST_IMAGES)
    (tmp_path / "text.jpg").write_text("text")
    assert read_images([*paths, tmp_path / "text.jpg"], PREPROCESSING).rejected == 1


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "a", LEAST_IMAGES - 1)
    with pytest.raises(QuantizationError, match="39 different images are too few: 40"):
        read_images(paths, PREPROCESSING)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"gone\.jpg: No such file"):
        read_images([tmp_path / "gone.jpg"], PREPROCESSING)
