"""Both engines against each other, and against the network in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.engines import load_engine
from model.network.config import END_POINTS, LOGITS, POOLED
from model.network.features import Feature
from tests.model.torch_twins import compute_unfolded
from tests.optional import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from PIL import Image

    from model.checkpoints.checkpoint import Checkpoint
    from model.engines.base import Engine

pytestmark = pytest.mark.thorough

OUTPUTS = (LOGITS, POOLED, *END_POINTS)
TOLERANCE = 1e-4
MAP_TOLERANCE = 1.5e-4
"""Of a map's single numbers: float32's rounding alone leaves each about 1e-4 from float64."""
BATCH_TOLERANCES = {"onnx": 1e-5, "torch": 1e-4}
VARIANTS = [(96, 32), (160, 8), (224, 32), (256, 16)]


@pytest.fixture(scope="module")
def engines(default_checkpoint: Checkpoint) -> list[Engine]:
    return [
        load_engine(default_checkpoint, name=name, device="cpu", threads=2)
        for name in ("onnx", "torch")
    ]


def create_batch(photos: list[Image.Image], size: int, count: int = 3) -> NDArray[np.uint8]:
    tilted = [photo.rotate(angle) for angle in (0, 20, 40) for photo in photos][:count]
    return np.stack([np.asarray(photo.resize((size, size))) for photo in tilted])


def extract(
    arrays: Mapping[str, NDArray[np.float32]], feature: Feature
) -> list[NDArray[np.float32]]:
    count = len(arrays[POOLED])
    return [feature.extract({name: rows[i] for name, rows in arrays.items()}) for i in range(count)]


@pytest.mark.parametrize(("size", "output_stride"), VARIANTS)
def test_both_engines_give_the_same_answers(
    engines: list[Engine], photos: list[Image.Image], size: int, output_stride: int
) -> None:
    pixels = create_batch(photos, size)
    onnx, of_torch = (
        engine.run(pixels, OUTPUTS, output_stride=output_stride).arrays for engine in engines
    )
    for name in (LOGITS, POOLED):
        np.testing.assert_allclose(onnx[name], of_torch[name], rtol=0, atol=TOLERANCE)
    for layer in END_POINTS:
        np.testing.assert_allclose(onnx[layer], of_torch[layer], rtol=0, atol=MAP_TOLERANCE)
        for pooling in ("global", "avg7"):
            feature = Feature(layer, pooling)
            rows = zip(extract(onnx, feature), extract(of_torch, feature), strict=True)
            for one, other in rows:
                np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("size", "output_stride"), [(32, 32), (160, 8), (224, 32)])
def test_batch_mates_change_nothing(
    engines: list[Engine], photos: list[Image.Image], size: int, output_stride: int, *, alone: bool
) -> None:
    pixels = create_batch(photos, size, count=8)
    for engine in engines:
        together = engine.run(pixels, OUTPUTS, output_stride=output_stride, alone=alone).arrays
        for row in range(8):
            single = pixels[row : row + 1]
            one = engine.run(single, OUTPUTS, output_stride=output_stride, alone=alone).arrays
            for name in OUTPUTS:
                np.testing.assert_allclose(
                    together[name][row], one[name][0], rtol=0, atol=BATCH_TOLERANCES[engine.name]
                )


@pytest.mark.parametrize(("size", "output_stride"), [(224, 32), (160, 16)])
def test_no_engine_is_further_from_float64_than_the_unfolded_network(
    engines: list[Engine],
    default_checkpoint: Checkpoint,
    photos: list[Image.Image],
    size: int,
    output_stride: int,
) -> None:
    pixels = create_batch(photos, size)
    scale, offset = default_checkpoint.preprocessing.scale_and_offset()
    images = torch.from_numpy(pixels / scale - offset).permute(0, 3, 1, 2)
    exact, unfolded = (
        compute_unfolded(default_checkpoint, images.to(dtype), output_stride)
        for dtype in (torch.float64, torch.float32)
    )
    for name in END_POINTS:
        reference = exact[name].permute(0, 2, 3, 1).numpy()
        rounding = float((unfolded[name] - exact[name]).abs().max())
        for engine in engines:
            array = engine.run(pixels, [name], output_stride=output_stride).arrays[name]
            assert float(np.abs(array - reference).max()) <= 2 * rounding
