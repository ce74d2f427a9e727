"""Released quantized checkpoints against LiteRT, on photos and images made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from model.checkpoints.checkpoint import Checkpoint, load_checkpoint
from model.engines import load_engine
from model.images.pixels import preprocess
from model.network.scores import softmax
from model.sources.load import convert_model
from tests.model.quantized_twins import count_optimized_nodes
from tests.model.sources.released import released as find_released
from tests.model.sources.tflite.litert import run_litert

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.thorough

FILES = ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.75_192_quant.tflite")
COUNT = 206
STEP = 1 / 256
"""One level of LiteRT's scores."""


@dataclass(frozen=True)
class Released:
    checkpoint: Checkpoint
    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


def vary(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of a photo, turned, flipped, brighter or darker, at times blurred."""
    width, height = photo.size
    share = rng.uniform(0.4, 1)
    crop = int(width * share), int(height * share)
    left, top = (int(rng.integers(0, rest + 1)) for rest in np.subtract(photo.size, crop))
    image = photo.crop((left, top, left + crop[0], top + crop[1]))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.4, 1.8))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0, 2))
    return image.filter(ImageFilter.GaussianBlur(int(rng.choice([0, 0, 1, 3]))))


def draw(rng: np.random.Generator) -> Image.Image:
    """Waves of two directions in each colour, or noise."""
    rows, columns = np.mgrid[0:240, 0:320]
    if rng.random() < 0.2:
        return Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    waves = [
        np.sin(rows * rng.uniform(0, 0.5) + rng.uniform(0, 6))
        * np.sin(columns * rng.uniform(0, 0.5) + rng.uniform(0, 6))
        for _ in range(3)
    ]
    return Image.fromarray((np.stack(waves, axis=-1) * 127 + 128).astype(np.uint8))


@pytest.fixture(scope="module")
def images(photos: list[Image.Image]) -> list[Image.Image]:
    rng = np.random.default_rng(7)
    varied = [vary(photos[number % 3], rng) for number in range(COUNT - 33)]
    return [*photos, *varied, *(draw(rng) for _ in range(30))]


@pytest.fixture(scope="module", params=FILES)
def released(
    request: pytest.FixtureRequest,
    images: list[Image.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Released:
    source = find_released(request.param)
    directory = tmp_path_factory.mktemp("released") / source.stem
    convert_model(str(source), directory)
    checkpoint = load_checkpoint(directory)
    pixels = np.stack([preprocess(image, checkpoint.preprocessing) for image in images])
    return Released(checkpoint, pixels, run_litert(source.read_bytes(), pixels))


def test_the_file_tells_everything(released: Released) -> None:
    config = released.checkpoint.config
    assert (config.depth_multiplier, config.image_size) in {(0.25, 128), (0.75, 192)}
    assert config.hidden_act == "relu6"
    assert released.checkpoint.labels[282].label == "tabby, tabby cat"
    assert released.checkpoint.preprocessing.scale_and_offset()[0].tolist() == [127.5] * 3


def test_every_convolution_runs_as_integers(released: Released, tmp_path: Path) -> None:
    nodes = count_optimized_nodes(released.checkpoint, tmp_path / "optimized.onnx")
    assert nodes["QLinearConv"] == 28
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & nodes.keys()


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_scores_are_litert_s(
    released: Released, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = load_engine(released.checkpoint, name=name, device="cpu")
    batches = np.array_split(released.pixels, 26)
    scores = softmax(np.concatenate([engine.run(batch).logits for batch in batches]))
    assert len(scores) == COUNT
    distances = np.abs(scores - released.scores).max(axis=-1) / STEP
    second, first = np.sort(released.scores, axis=-1)[:, -2:].T
    clear = first - second > 4 * STEP
    agree = scores.argmax(axis=-1) == released.scores.argmax(axis=-1)
    with capsys.disabled():
        print(  # noqa: T201  # the figures are what this test is read for
            f"\n{released.checkpoint.name} {name}: top-1 agrees on {agree[clear].sum()} of "
            f"{clear.sum()} clear images; within 4/256: {(distances <= 4).mean():.1%}; "
            f"furthest off: {distances.max():.3f}/256"
        )
    assert agree[clear].all()
    assert (distances <= 4).mean() >= 0.97
    assert distances.max() <= 12
