from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.engines.torch.architecture import ACTIVATIONS, MobileNetV1, same_padding
from model.errors import UnsupportedModelError
from model.network.config import MobileNetV1Config
from tests.model.twins import (
    DEPTH_MULTIPLIERS,
    SIZES,
    create_twins,
    relative_error,
    size_id,
    to_network,
    variant_id,
)

TOLERANCE = 1e-5


@pytest.fixture(
    scope="module", params=list(product(DEPTH_MULTIPLIERS, (True, False))), ids=variant_id
)
def networks(request: pytest.FixtureRequest) -> tuple[MobileNetV1, Any]:
    depth_multiplier, tf_padding = request.param
    checkpoint, theirs = create_twins(depth_multiplier=depth_multiplier, tf_padding=tf_padding)
    return to_network(checkpoint), theirs


def create_images(size: tuple[int, int] = (64, 48), channels: int = 3) -> Tensor:
    return torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(7)) * 2 - 1


def assert_same_in_every_layer(ours: MobileNetV1, theirs: Any, images: Tensor) -> None:
    expected = theirs(images, output_hidden_states=True)
    _, *blocks = ours.forward_features(images).values()
    assert len(blocks) == len(expected.hidden_states) == 26
    for block, hidden_state in zip(blocks, expected.hidden_states, strict=True):
        assert hidden_state.std() > 0
        assert relative_error(block.numpy(), hidden_state.numpy()) <= TOLERANCE
    assert relative_error(ours(images).numpy(), expected.logits.numpy()) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_logits_and_hidden_states_are_those_of_transformers(
    networks: tuple[MobileNetV1, Any], size: tuple[int, int]
) -> None:
    ours, theirs = networks
    assert_same_in_every_layer(ours, theirs, create_images(size))


@pytest.mark.parametrize(
    "settings",
    [
        {"min_depth": 1},
        {"min_depth": 24},
        {"layer_norm_eps": 0.1},
        {"layer_norm_eps": 1e-5},
        {"num_channels": 1},
        {"num_channels": 4},
        {"num_labels": 1},
        {"num_labels": 1001},
    ],
    ids=str,
)
def test_a_setting_means_what_it_means_to_transformers(settings: dict[str, Any]) -> None:
    checkpoint, theirs = create_twins(depth_multiplier=0.1, **settings)
    images = create_images(channels=checkpoint.config.num_channels)
    assert_same_in_every_layer(to_network(checkpoint), theirs, images)


def test_without_classes_the_logits_are_the_pooled_features_as_in_transformers() -> None:
    import transformers

    settings: dict[str, Any] = {"depth_multiplier": 0.25, "num_labels": 0}
    theirs: Any = transformers.MobileNetV1ForImageClassification(
        transformers.MobileNetV1Config(**settings)
    )
    ours = MobileNetV1(MobileNetV1Config.model_validate(settings)).eval()
    ours.load_state_dict(theirs.eval().state_dict())
    with torch.inference_mode():
        images = create_images()
        assert torch.equal(ours(images), theirs(images).logits)


@pytest.mark.parametrize("hidden_act", sorted(ACTIVATIONS))
def test_an_activation_is_that_of_transformers(
    hidden_act: str,
) -> None:
    checkpoint, theirs = create_twins(depth_multiplier=0.25, hidden_act=hidden_act)
    assert_same_in_every_layer(to_network(checkpoint), theirs, create_images())


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'softsign'.*'relu6'"):
        MobileNetV1(MobileNetV1Config(hidden_act="softsign"))


@pytest.mark.parametrize("initializer_range", [0.02, 0.5])
def test_a_fresh_network_spreads_its_kernels_by_initializer_range(initializer_range: float) -> None:
    network = MobileNetV1(
        MobileNetV1Config(depth_multiplier=0.25, initializer_range=initializer_range)
    )
    kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(kernels) == 27
    spread = torch.cat([kernel.detach().flatten() for kernel in kernels]).std().item()
    assert spread == pytest.approx(initializer_range, rel=0.05)
    assert not network.state_dict()["classifier.bias"].any()


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.999])
def test_the_dropout_probability_reaches_the_dropout(probability: float) -> None:
    network = MobileNetV1(
        MobileNetV1Config(depth_multiplier=0.25, classifier_dropout_prob=probability)
    )
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [probability]


def test_dropout_does_nothing_when_the_network_infers() -> None:
    checkpoint, _ = create_twins(depth_multiplier=0.25)
    network = to_network(checkpoint)
    images = create_images()
    assert torch.equal(network(images), network(images))


def test_a_network_made_to_infer_keeps_no_gradients() -> None:
    checkpoint, _ = create_twins(depth_multiplier=0.25)
    network = to_network(checkpoint)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("size", [(31, 31), (31, 64), (64, 31), (1, 1)], ids=size_id)
def test_sides_below_32_pixels_are_refused(
    networks: tuple[MobileNetV1, Any], size: tuple[int, int]
) -> None:
    ours, _ = networks
    with pytest.raises(ValueError, match="at least 32 pixels"):
        ours.forward_features(create_images(size))


def test_the_head_pools_and_classifies() -> None:
    checkpoint, theirs = create_twins(depth_multiplier=0.25)
    network = to_network(checkpoint)
    images = create_images((97, 131))
    *_, last = network.forward_features(images).values()
    pooled, logits = network.forward_head(last)
    expected = theirs.mobilenet_v1(images).pooler_output
    assert relative_error(pooled.numpy(), expected.numpy()) <= TOLERANCE
    assert torch.equal(logits, network(images))


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
