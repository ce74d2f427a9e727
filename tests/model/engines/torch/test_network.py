from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint
from model.engines.torch.engine import TorchEngine
from model.engines.torch.network import ACTIVATIONS, same_padding
from model.network.config import END_POINTS, LOGITS, POOLED
from tests.model.twins import (
    DEPTH_MULTIPLIERS,
    SIZES,
    create_twins,
    relative_error,
    size_id,
    variant_id,
)

TOLERANCE = 1e-5
Twins = tuple[Checkpoint, Any]


@pytest.fixture(
    scope="module", params=list(product(DEPTH_MULTIPLIERS, (True, False))), ids=variant_id
)
def twins(request: pytest.FixtureRequest) -> Twins:
    depth_multiplier, tf_padding = request.param
    return create_twins(depth_multiplier=depth_multiplier, tf_padding=tf_padding)


def create_pixels(size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (1, *size, 3), np.uint8)


def assert_same_in_every_layer(twins: Twins, pixels: NDArray[np.uint8]) -> None:
    checkpoint, theirs = twins
    images = torch.from_numpy(pixels / np.float32(127.5) - np.float32(1)).permute(0, 3, 1, 2)
    expected = theirs(images, output_hidden_states=True)
    ours = TorchEngine(checkpoint, 1).run(pixels, (*END_POINTS, POOLED, LOGITS)).arrays
    pointwise = expected.hidden_states[1::2]
    assert len(pointwise) == 13
    for name, hidden_state in zip(END_POINTS[1:], pointwise, strict=True):
        assert hidden_state.std() > 0
        channels_last = hidden_state.permute(0, 2, 3, 1).numpy()
        assert relative_error(ours[name], channels_last) <= TOLERANCE
    pooled = theirs.mobilenet_v1(images).pooler_output.numpy()
    assert relative_error(ours[POOLED], pooled) <= TOLERANCE
    assert relative_error(ours[LOGITS], expected.logits.numpy()) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_outputs_are_those_of_transformers(twins: Twins, size: tuple[int, int]) -> None:
    assert_same_in_every_layer(twins, create_pixels(size))


@pytest.mark.parametrize(
    "settings",
    [
        {"min_depth": 1},
        {"min_depth": 24},
        {"layer_norm_eps": 0.1},
        {"layer_norm_eps": 1e-5},
        {"num_labels": 1},
        {"num_labels": 1001},
    ],
    ids=str,
)
def test_a_setting_means_what_it_means_to_transformers(settings: dict[str, Any]) -> None:
    assert_same_in_every_layer(create_twins(depth_multiplier=0.1, **settings), create_pixels())


@pytest.mark.parametrize("tf_padding", [True, False])
@pytest.mark.parametrize("hidden_act", sorted(ACTIVATIONS))
def test_an_activation_is_that_of_transformers(hidden_act: str, *, tf_padding: bool) -> None:
    twins = create_twins(depth_multiplier=0.25, hidden_act=hidden_act, tf_padding=tf_padding)
    assert_same_in_every_layer(twins, create_pixels())


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "expected"),
    [
        pytest.param(224, 3, 2, (0, 1), id="even"),
        pytest.param(225, 3, 2, (1, 1), id="odd"),
        pytest.param(7, 3, 1, (1, 1), id="stride-1"),
        pytest.param(7, 1, 1, (0, 0), id="pointwise"),
    ],
)
def test_same_padding_puts_the_odd_pixel_after(
    size: int, kernel_size: int, stride: int, expected: tuple[int, int]
) -> None:
    assert same_padding(size, kernel_size, stride) == expected
    assert (size + sum(expected) - kernel_size) // stride + 1 == int(np.ceil(size / stride))
