from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from model.checkpoints.checkpoint import Checkpoint
from model.engines.onnx.float_graph import ACTIVATIONS
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.model import create_model
from model.network.config import LOGITS, POOLED
from tests.model.twins import (
    DEPTH_MULTIPLIERS,
    SIZES,
    create_checkpoint,
    create_twins,
    relative_error,
    size_id,
    tiny_config,
    variant_id,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

TOLERANCE = 1e-5
Run = tuple[list[str], onnxruntime.InferenceSession, Any]


def start(checkpoint: Checkpoint, theirs: Any) -> Run:
    end_points = [layer.end_point for layer in checkpoint.config.layers[1:]]
    model = create_model(checkpoint, [LOGITS, POOLED, *end_points])
    return end_points, create_session(model), theirs


def create_session(model: ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture(
    scope="module", params=list(product(DEPTH_MULTIPLIERS, (True, False))), ids=variant_id
)
def graph(request: pytest.FixtureRequest) -> Run:
    depth_multiplier, tf_padding = request.param
    return start(*create_twins(depth_multiplier=depth_multiplier, tf_padding=tf_padding))


def create_pixels(size: tuple[int, int] = (64, 48), count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def to_images(pixels: NDArray[np.uint8]) -> torch.Tensor:
    scaled = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def assert_same_in_every_layer(run: Run, pixels: NDArray[np.uint8]) -> None:
    end_points, session, theirs = run
    images = to_images(pixels)
    expected = theirs(images, output_hidden_states=True)
    outputs = session.run([LOGITS, POOLED, *end_points], {PIXELS: pixels})
    logits, pooled, *maps = outputs
    assert relative_error(logits, expected.logits.numpy()) <= TOLERANCE
    assert relative_error(pooled, theirs.mobilenet_v1(images).pooler_output.numpy()) <= TOLERANCE
    assert len(maps) == len(expected.hidden_states) == 26
    for feature_map, hidden_state in zip(maps, expected.hidden_states, strict=True):
        assert hidden_state.std() > 0
        channels_last = hidden_state.permute(0, 2, 3, 1).numpy()
        assert relative_error(feature_map, channels_last) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_logits_pooled_and_end_points_are_those_of_transformers(
    graph: Run, size: tuple[int, int]
) -> None:
    assert_same_in_every_layer(graph, create_pixels(size))


def test_a_batch_is_computed_row_by_row(graph: Run) -> None:
    assert_same_in_every_layer(graph, create_pixels((97, 131), count=3))


@pytest.mark.parametrize("hidden_act", sorted(ACTIVATIONS))
def test_an_activation_is_that_of_transformers(
    hidden_act: str,
) -> None:
    twins = create_twins(depth_multiplier=0.25, hidden_act=hidden_act)
    assert_same_in_every_layer(start(*twins), create_pixels())


def test_both_engines_know_the_same_activations() -> None:
    from model.engines.torch.network import ACTIVATIONS as OF_TORCH

    assert ACTIVATIONS.keys() == OF_TORCH.keys()


@pytest.mark.parametrize(
    "settings", [{"min_depth": 24}, {"layer_norm_eps": 0.1}, {"num_labels": 1}], ids=str
)
def test_a_setting_means_what_it_means_to_transformers(settings: dict[str, Any]) -> None:
    twins = create_twins(depth_multiplier=0.1, **settings)
    assert_same_in_every_layer(start(*twins), create_pixels())


def test_every_byte_is_scaled_to_the_value_that_transformers_gives_it(
    default_checkpoint: Checkpoint, reference_processor: Any
) -> None:
    every_byte = np.arange(256, dtype=np.uint8)
    pixels = np.stack([every_byte, every_byte[::-1], every_byte], axis=-1).reshape(1, 16, 16, 3)
    expected = reference_processor(
        Image.fromarray(pixels[0]), do_resize=False, do_center_crop=False, return_tensors="np"
    )["pixel_values"]
    model = create_model(default_checkpoint, [LOGITS])
    model.graph.output.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, None))
    scaled = create_session(model).run(["input"], {PIXELS: pixels})[0]
    assert scaled.dtype == expected.dtype == np.float32
    assert np.array_equal(scaled, expected)
    assert len(np.unique(scaled)) == 256


def test_the_scaling_follows_the_checkpoint_s_mean_and_deviation() -> None:
    checkpoint = create_checkpoint(tiny_config())
    preprocessing = checkpoint.preprocessing.model_copy(
        update={"image_mean": (0.4, 0.5, 0.6), "image_std": (0.2, 0.25, 0.3)}
    )
    scale, offset = preprocessing.scale_and_offset()
    pixels = np.array([0, 128, 255], np.float32)
    expected = (pixels / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.25, 0.3])
    np.testing.assert_allclose(pixels / scale - offset, expected, rtol=1e-6)


def test_only_the_wanted_outputs_are_in_the_graph() -> None:
    checkpoint = create_checkpoint(tiny_config())
    model = create_model(checkpoint, ["Conv2d_5_pointwise", POOLED])
    assert [output.name for output in model.graph.output] == ["Conv2d_5_pointwise", POOLED]
    feature_map, _ = create_session(model).run(None, {PIXELS: create_pixels((64, 48))})
    assert feature_map.shape == (1, 8, 6, 8)
