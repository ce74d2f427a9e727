"""Every layer of both engines against transformers."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from model.engines import load_engine
from model.network.config import END_POINTS, LOGITS, POOLED
from tests.model.torch_twins import create_twins
from tests.model.transformers_answers import make
from tests.model.twins import DEPTH_MULTIPLIERS, SIZES, relative_error, size_id, variant_id
from tests.optional import torch

if TYPE_CHECKING:
    from PIL import Image

    from model.checkpoints.checkpoint import Checkpoint

pytestmark = pytest.mark.thorough


@pytest.fixture(
    scope="module", params=list(product(DEPTH_MULTIPLIERS, (True, False))), ids=variant_id
)
def twins(request: pytest.FixtureRequest) -> tuple[Checkpoint, Any]:
    depth_multiplier, tf_padding = request.param
    return create_twins(depth_multiplier=depth_multiplier, tf_padding=tf_padding)


@pytest.mark.parametrize("name", ["onnx", "torch"])
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_every_layer_is_that_of_transformers(
    twins: tuple[Checkpoint, Any], size: tuple[int, int], name: str
) -> None:
    checkpoint, theirs = twins
    pixels = np.random.default_rng(7).integers(0, 256, (2, *size, 3), np.uint8)
    images = torch.from_numpy(pixels / np.float32(127.5) - np.float32(1)).permute(0, 3, 1, 2)
    expected = theirs(images, output_hidden_states=True)
    engine = load_engine(checkpoint, name=name, device="cpu", threads=1)
    ours = engine.run(pixels, (*END_POINTS, POOLED, LOGITS)).arrays
    pointwise = expected.hidden_states[1::2]
    for end_point, hidden_state in zip(END_POINTS[1:], pointwise, strict=True):
        assert hidden_state.std() > 0
        channels_last = hidden_state.permute(0, 2, 3, 1).numpy()
        assert relative_error(ours[end_point], channels_last) <= 1e-5
    pooled = theirs.mobilenet_v1(images).pooler_output.numpy()
    assert relative_error(ours[POOLED], pooled) <= 1e-5
    assert relative_error(ours[LOGITS], expected.logits.numpy()) <= 1e-5


def test_the_stored_answers_are_those_of_transformers(photos: list[Image.Image]) -> None:
    stored, current = make.load_answers(), make.answers(photos)
    assert stored.keys() == current.keys()
    for name, array in current.items():
        assert relative_error(stored[name], array) <= 1e-6, name
