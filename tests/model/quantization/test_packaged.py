"""The int8 checkpoint in the repository, against the float one that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint
from model.engines.onnx.engine import OnnxEngine
from model.images.pixels import preprocess
from model.network.scores import softmax
from model.sources.load import load_model

if TYPE_CHECKING:
    from PIL import Image

NAME = "mobilenet_v1_1.0_224_int8"


@pytest.fixture(scope="module")
def packaged() -> Checkpoint:
    return load_model(NAME)


def test_it_is_loaded_by_its_name_and_small(packaged: Checkpoint) -> None:
    assert packaged.name == NAME
    assert packaged.quantization
    size = sum(path.stat().st_size for path in (DEFAULT_DIRECTORY.parent / NAME).iterdir())
    assert size < 4_500_000


def test_it_differs_from_the_float_one_in_its_weights_alone(
    packaged: Checkpoint, default_checkpoint: Checkpoint
) -> None:
    assert packaged.config == default_checkpoint.config
    assert packaged.preprocessing == default_checkpoint.preprocessing
    assert packaged.labels == default_checkpoint.labels


def test_photos_get_the_float_network_s_answers(
    packaged: Checkpoint, default_checkpoint: Checkpoint, photos: list[Image.Image]
) -> None:
    pixels = np.stack([preprocess(photo, packaged.preprocessing) for photo in photos])
    actual, expected = (
        softmax(OnnxEngine(one, 1).run(pixels).logits) for one in (packaged, default_checkpoint)
    )
    assert actual.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()
    assert np.abs(actual - expected).max() < 0.1
