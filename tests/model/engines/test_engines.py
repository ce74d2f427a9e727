from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import model.engines
from model.engines import load_engine
from model.errors import EngineUnavailableError, UnsupportedModelError
from model.images.pixels import preprocess
from tests.model.transformers_answers import make
from tests.model.twins import ENGINES, create_checkpoint, size_id, tiny_config

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from model.checkpoints.checkpoint import Checkpoint
    from model.engines.base import Engine

TOLERANCES = {"onnx": 1e-5, "torch": 1e-4}
ROOT = Path(__file__).parents[3]
RUN_ONCE = """
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine
from model.engines.self_test import check_engine
check_engine(load_engine(load_checkpoint(DEFAULT_DIRECTORY), name="onnx"))
"""
WITHOUT_TORCH = """
import sys
import numpy as np
import model.images.decoder, model.network.scores, model.images.pixels
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine
import model.engines.onnx.engine

engine = load_engine(load_checkpoint(DEFAULT_DIRECTORY))
output = engine.run(np.zeros((2, 224, 224, 3), np.uint8))
assert engine.name == "onnx" and output.logits.shape == (2, 1001)
print(sorted({"torch", "transformers"} & sys.modules.keys()))
"""

no_cuda = pytest.mark.skipif(model.engines._finds_cuda(), reason="this machine has a CUDA device")


@pytest.fixture
def checkpoint() -> Checkpoint:
    return create_checkpoint(tiny_config())


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def find_all_but_torch(name: str, package: str | None = None) -> Any:
        return None if name == "torch" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_torch)


@pytest.fixture(scope="module")
def batch(photos: list[Image.Image], default_checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """Eight different images."""
    tilted = [photo.rotate(angle) for angle in (0, 20, 40) for photo in photos][:8]
    preprocessing = default_checkpoint.preprocessing
    return np.stack([preprocess(photo, preprocessing) for photo in tilted])


def test_photos_get_the_logits_and_features_of_transformers(
    default_engine: Engine, photos: list[Image.Image]
) -> None:
    answers = make.load_answers()
    preprocessing = default_engine.checkpoint.preprocessing
    output = default_engine.run(np.stack([preprocess(photo, preprocessing) for photo in photos]))
    np.testing.assert_allclose(output.logits, answers["photos logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(output.pooled, answers["photos pooled"], rtol=0, atol=1e-4)
    assert output.logits.dtype == output.pooled.dtype == np.float32


def test_photos_are_seen_for_what_they_are(
    default_engine: Engine, photos: list[Image.Image]
) -> None:
    checkpoint = default_engine.checkpoint
    pixels = np.stack([preprocess(photo, checkpoint.preprocessing) for photo in photos])
    best = default_engine.run(pixels).logits.argmax(axis=-1)
    cat, coffee, rocket = (checkpoint.labels[class_id].label for class_id in best)
    assert "cat" in cat
    assert "espresso" in coffee
    assert "missile" in rocket


@pytest.mark.parametrize("together", [True, False], ids=["alone", "among-others"])
def test_batch_mates_do_not_change_an_answer(
    default_engine: Engine, batch: NDArray[np.uint8], *, together: bool
) -> None:
    tolerance = TOLERANCES[default_engine.name]
    output = default_engine.run(batch, alone=together)
    for row in range(len(batch)):
        alone = default_engine.run(batch[row : row + 1])
        np.testing.assert_allclose(output.logits[row], alone.logits[0], rtol=0, atol=tolerance)
        np.testing.assert_allclose(output.pooled[row], alone.pooled[0], rtol=0, atol=tolerance)


def test_pixels_are_run_as_preprocessing_leaves_them(
    default_engine: Engine, photos: list[Image.Image]
) -> None:
    pixels = preprocess(photos[0], default_engine.checkpoint.preprocessing)[None]
    assert not pixels.flags.writeable
    copied = default_engine.run(pixels.copy())
    assert np.array_equal(default_engine.run(pixels).logits, copied.logits)
    assert np.array_equal(default_engine.run(np.asfortranarray(pixels)).logits, copied.logits)


@pytest.mark.parametrize("size", [(31, 64), (64, 31)], ids=size_id)
@pytest.mark.parametrize("name", ENGINES)
def test_sides_below_32_pixels_are_refused(
    checkpoint: Checkpoint, name: str, size: tuple[int, int]
) -> None:
    engine = load_engine(checkpoint, name=name, device="cpu")
    with pytest.raises(ValueError, match="at least 32 pixels"):
        engine.run(np.zeros((1, *size, 3), np.uint8))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_unknown_activation_is_refused_when_the_engine_loads(engine: str) -> None:
    unknown = create_checkpoint(tiny_config(hidden_act="softsign"))
    with pytest.raises(UnsupportedModelError, match=r"'softsign'.*'relu6'"):
        load_engine(unknown, name=engine, device="cpu")


def test_the_default_path_imports_neither_torch_nor_transformers() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_found_by_its_name(checkpoint: Checkpoint, name: str) -> None:
    engine = load_engine(checkpoint, name=name, device="cpu")
    assert (engine.name, engine.device, engine.checkpoint) == (name, "cpu", checkpoint)


@no_cuda
def test_without_cuda_the_engine_is_onnx(checkpoint: Checkpoint) -> None:
    assert load_engine(checkpoint).name == "onnx"
    assert load_engine(checkpoint, name="auto", device="cpu").name == "onnx"


@pytest.mark.thorough
@no_cuda
def test_without_cuda_torch_runs_on_the_cpu(checkpoint: Checkpoint) -> None:
    assert load_engine(checkpoint, name="torch").device == "cpu"


@pytest.mark.thorough
@pytest.mark.parametrize("device", ["auto", "cuda"])
@no_cuda
def test_with_cuda_the_engine_is_torch(
    checkpoint: Checkpoint, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engines, "_finds_cuda", lambda: True)
    with pytest.raises(EngineUnavailableError, match="PyTorch finds no CUDA device"):
        load_engine(checkpoint, device=device)


@pytest.mark.thorough
@no_cuda
def test_torch_is_refused_the_cuda_device_that_is_not_there(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineUnavailableError, match="device cuda"):
        load_engine(checkpoint, name="torch", device="cuda")


@no_cuda
def test_a_driver_without_a_device_is_no_cuda(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engines, "_CUDA_DRIVERS", (tmp_path,))
    assert load_engine(checkpoint).name == "onnx"


def test_onnx_is_refused_on_cuda(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineUnavailableError, match="CUDA needs engine torch"):
        load_engine(checkpoint, name="onnx", device="cuda")


def test_an_unknown_engine_is_refused_and_the_known_ones_are_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineUnavailableError, match=r"'tpu' is not known.*onnx and torch"):
        load_engine(checkpoint, name="tpu")


@pytest.mark.usefixtures("without_torch")
def test_a_missing_torch_says_what_to_install(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineUnavailableError, match=r"pip install -e '\.\[torch\]'"):
        load_engine(checkpoint, name="torch")


@pytest.mark.usefixtures("without_torch")
def test_a_cuda_driver_without_torch_still_means_onnx(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engines, "_CUDA_DRIVERS", (tmp_path,))
    assert load_engine(checkpoint).name == "onnx"


@pytest.mark.thorough
def test_the_onnx_engine_writes_nothing_and_reports_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    subprocess.run([sys.executable, "-c", RUN_ONCE], check=True, cwd=ROOT)
    assert not list(tmp_path.iterdir())  # without the switch: a device id, a session, a database
