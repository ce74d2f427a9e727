from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from model.engines import load_engine
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.model import create_model
from model.network.config import LOGITS, POOLED, MobileNetV1Config
from tests.model.transformers_answers import make
from tests.model.twins import ENGINES, create_checkpoint, relative_error, tiny_config

if TYPE_CHECKING:
    from onnx import ModelProto

    from model.checkpoints.checkpoint import Checkpoint

ANSWERS = make.load_answers()


def create_session(model: ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", make.TWINS)
def test_a_setting_means_what_it_means_to_transformers(engine: str, case: str) -> None:
    config = MobileNetV1Config.model_validate(make.twin_settings(case))
    network = load_engine(create_checkpoint(config), name=engine, device="cpu", threads=1)
    output = network.run(make.twin_pixels(case))
    assert relative_error(output.logits, ANSWERS[f"{case} logits"]) <= 1e-5
    assert relative_error(output.pooled, ANSWERS[f"{case} pooled"]) <= 1e-5


def test_every_byte_is_scaled_to_the_value_that_transformers_gives_it(
    default_checkpoint: Checkpoint,
) -> None:
    model = create_model(default_checkpoint, [LOGITS])
    model.graph.output.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, None))
    scaled = create_session(model).run(["input"], {PIXELS: make.every_byte()[None]})[0]
    assert scaled.dtype == np.float32
    assert np.array_equal(scaled, ANSWERS["every byte"])
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
    feature_map, _ = create_session(model).run(None, {PIXELS: np.zeros((1, 64, 48, 3), np.uint8)})
    assert feature_map.shape == (1, 8, 6, 8)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))],
    ids=["equal-channels", "a-constant-a-channel"],
)
def test_pixels_are_scaled_plane_by_plane_to_the_same_bits(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    checkpoint = create_checkpoint(tiny_config())
    preprocessing = checkpoint.preprocessing.model_copy(
        update={"image_mean": mean, "image_std": std}
    )
    model = create_model(replace(checkpoint, preprocessing=preprocessing))
    shapes = {constant.name: list(constant.dims) for constant in model.graph.initializer}
    elementwise = [node for node in model.graph.node if node.op_type in {"Div", "Sub"}]
    assert elementwise
    for node in elementwise:
        assert all(shapes.get(source) in (None, [], [1, 3, 1, 1]) for source in node.input)
    model.graph.output.append(
        helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, 3, None, None])
    )
    pixels = np.tile(np.arange(256, dtype=np.uint8), 72).reshape(2, 64, 48, 3)
    (planes,) = create_session(model).run(["input"], {PIXELS: pixels})
    scale, offset = preprocessing.scale_and_offset()
    expected = pixels.astype(np.float32) / scale - offset
    np.testing.assert_array_equal(
        planes.view(np.uint32), np.ascontiguousarray(expected.transpose(0, 3, 1, 2)).view(np.uint32)
    )
