from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.network.config import END_POINTS, POOLED, MobileNetV1Config
from model.network.features import Feature, Pooling, normalize, parse_layer

CONFIG = MobileNetV1Config(depth_multiplier=0.25)


def create_map(height: int, width: int, channels: int = 5) -> NDArray[np.float32]:
    generator = np.random.default_rng(height * 100 + width)
    return generator.normal(size=(height, width, channels)).astype(np.float32)


def pool_as_slim(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """TF-Slim's avg_pool2d: VALID, stride 2, its kernel no larger than the map."""
    height, width = (min(side, 7) for side in array.shape[:2])
    windows = np.lib.stride_tricks.sliding_window_view(array, (height, width), axis=(0, 1))
    pooled: NDArray[np.float32] = windows[::2, ::2].mean(axis=(-2, -1))
    return pooled


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 9), (14, 14), (16, 10), (4, 4), (3, 12)])
def test_avg7_is_the_originals_pooling(size: tuple[int, int]) -> None:
    array = create_map(*size)
    expected = pool_as_slim(array)
    actual = Feature("Conv2d_11_pointwise", "avg7").extract({"Conv2d_11_pointwise": array})
    if expected.shape[:2] == (1, 1):
        expected = expected[0, 0]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_avg7_is_global_pooling_on_the_map_of_the_default_size() -> None:
    array = create_map(7, 7)
    avg7 = Feature(END_POINTS[-1], "avg7").extract({END_POINTS[-1]: array})
    np.testing.assert_allclose(avg7, array.mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.parametrize("pooling", ["global", "avg7", "none"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("side", [32, 97, 224])
@pytest.mark.parametrize("layer", ["Conv2d_0", "Conv2d_5_pointwise", "Conv2d_12_pointwise", POOLED])
def test_the_shape_is_known_before_it_is_computed(
    layer: str, side: int, output_stride: int, pooling: Pooling
) -> None:
    feature = Feature(layer, pooling)
    shape = feature.shape(CONFIG, side, side, output_stride)
    arrays: dict[str, NDArray[np.float32]] = {
        one.end_point: np.zeros((rows, columns, one.out_channels), np.float32)
        for one, rows, columns in CONFIG.maps(side, side, output_stride)
    }
    arrays[POOLED] = np.zeros(CONFIG.num_features, np.float32)
    assert feature.extract(arrays).shape == shape


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("pooled", POOLED),
        ("0", "Conv2d_0"),
        ("13", "Conv2d_13_pointwise"),
        ("Conv2d_7_pointwise", "Conv2d_7_pointwise"),
    ],
)
def test_a_layer_has_a_name_and_a_number(text: str, layer: str) -> None:
    assert parse_layer(text) == layer


@pytest.mark.parametrize("text", ["", "14", "-1", "05", "Conv2d_3_depthwise", "logits", "\u0663"])
def test_another_layer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a layer is"):
        parse_layer(text)


def test_an_embedding_has_unit_length_and_keeps_its_direction() -> None:
    features = np.random.default_rng(0).normal(0, 5, (4, 1024)).astype(np.float32)
    unit = normalize(features)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-5)
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(unit * lengths, features, rtol=1e-5, atol=1e-6)


def test_a_zero_embedding_stays_zero_among_others() -> None:
    features = np.array([[0, 0], [3, 4]], np.float32)
    expected = np.array([[0, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(normalize(features), expected, rtol=1e-6)
