from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from model.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from model.images.preprocessor_config import Preprocessing
from model.quantization import quantize_model
from tests.model.quantization.folders import write_images
from tests.model.twins import create_weights, tiny_config

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

COUNT = 44


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    config = tiny_config(image_size=64)
    preprocessing = Preprocessing.model_validate({"size": 72, "crop_size": 64})
    save_checkpoint(tmp_path / "floats", config, preprocessing, create_weights(config))
    return tmp_path / "floats"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", COUNT)
    return tmp_path / "images"


def run(checkpoint: Path, images: Path, output: Path) -> Result:
    arguments = [str(checkpoint), "--calibration", str(images), "--output", str(output)]
    return CliRunner().invoke(app, ["quantize", *arguments])


def refusal(result: Result) -> str:
    """The one line that a refused command ends with."""
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_an_int8_checkpoint_is_written_and_compared(
    floats: Path, images: Path, tmp_path: Path
) -> None:
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = run(floats, images, tmp_path / "new" / "int8")
    assert result.exit_code == 0, result.output
    assert "Files that are no images, left out: 1" in result.output
    assert "Calibrated with 33 images, compared on 11 others:" in result.output
    assert "same best class          11 of 11" in result.output
    assert load_checkpoint(tmp_path / "new" / "int8").quantization
    files = sorted(path.name for path in (tmp_path / "new" / "int8").iterdir())
    assert files == [
        "SHA256SUMS",
        "config.json",
        "preprocessor_config.json",
        "quantization.safetensors",
    ]


def test_what_differs_too_often_is_reported_and_not_written(
    floats: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize_model, "LEAST_SHARE", 1.01)
    result = run(floats, images, tmp_path / "int8")
    assert "100.0% of the images held out get the same best class, and 101%" in refusal(result)
    assert "same best class" in result.stdout
    assert not (tmp_path / "int8").exists()


def test_a_quantized_checkpoint_is_refused(floats: Path, images: Path, tmp_path: Path) -> None:
    assert run(floats, images, tmp_path / "int8").exit_code == 0
    result = run(tmp_path / "int8", images, tmp_path / "again")
    assert refusal(result).endswith("int8: is quantized already")
    assert not (tmp_path / "again").exists()


def test_a_feature_extractor_is_refused(images: Path, tmp_path: Path) -> None:
    config = tiny_config(num_labels=0)
    save_checkpoint(tmp_path / "features", config, Preprocessing(), create_weights(config))
    result = run(tmp_path / "features", images, tmp_path / "int8")
    assert "has no classes" in refusal(result)


def test_folders_without_enough_images_are_refused(floats: Path, tmp_path: Path) -> None:
    assert "is no folder" in refusal(run(floats, tmp_path / "none", tmp_path / "int8"))
    (tmp_path / "empty").mkdir()
    assert "has no file named" in refusal(run(floats, tmp_path / "empty", tmp_path / "int8"))
    write_images(tmp_path / "few", 5)
    assert "5 different images are too few" in refusal(
        run(floats, tmp_path / "few", tmp_path / "int8")
    )
    assert not (tmp_path / "int8").exists()


def test_what_exists_or_cannot_be_made_is_not_written(
    floats: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    assert "there: File exists" in refusal(run(floats, images, tmp_path / "there"))
    assert "Not a directory" in refusal(run(floats, images, floats / "config.json" / "int8"))


def test_a_disk_that_fills_up_leaves_nothing_behind(
    floats: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(directory: Path, *_: object) -> None:
        shutil.copy(floats / "config.json", directory)
        raise OSError(28, "No space left on device", str(directory / "quantization.safetensors"))

    monkeypatch.setattr(quantize_model, "save_checkpoint", save)
    result = run(floats, images, tmp_path / "int8")
    assert "quantization.safetensors: No space left on device" in refusal(result)
    assert not (tmp_path / "int8").exists()


def test_a_checkpoint_that_is_none_is_refused(images: Path, tmp_path: Path) -> None:
    assert "is no directory" in refusal(run(tmp_path / "none", images, tmp_path / "int8"))
