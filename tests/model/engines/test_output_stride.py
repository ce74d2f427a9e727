"""Dilated maps against undilated ones, and both engines against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.engines.base import Engine, default_outputs
from model.engines.onnx.engine import OnnxEngine
from model.engines.onnx.model import create_model
from model.network.config import END_POINTS, LOGITS, POOLED, MobileNetV1Config
from tests.model.twins import ENGINES, create_checkpoint, relative_error

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[True, False], ids=["SAME", "symmetric"])
def narrow(request: pytest.FixtureRequest) -> Checkpoint:
    return create_checkpoint(
        MobileNetV1Config(depth_multiplier=0.25, tf_padding=request.param, num_labels=10)
    )


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, narrow: Checkpoint) -> Engine:
    return load_engine(narrow, name=request.param, device="cpu", threads=2)


def create_pixels(height: int, width: int, count: int = 1) -> NDArray[np.uint8]:
    generator = np.random.default_rng(height + width)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.thorough
@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(32, 32), (97, 131), (224, 224), (301, 257)])
def test_both_engines_agree_on_every_output(
    narrow: Checkpoint, size: tuple[int, int], output_stride: int
) -> None:
    outputs = [LOGITS, POOLED, *END_POINTS]
    pixels = create_pixels(*size, count=2)
    ours, reference = (
        load_engine(narrow, name=name, device="cpu", threads=2)
        .run(pixels, outputs, output_stride=output_stride)
        .arrays
        for name in ("onnx", "torch")
    )
    for name in outputs:
        assert ours[name].shape == reference[name].shape
        assert relative_error(ours[name], reference[name]) <= TOLERANCE, name


def test_an_output_stride_of_32_is_the_plain_network(engine: Engine) -> None:
    pixels = create_pixels(96, 96)
    plain = engine.run(pixels)
    explicit = engine.run(pixels, [LOGITS, POOLED, "Conv2d_3_pointwise"], output_stride=32)
    np.testing.assert_allclose(explicit.logits, plain.logits, atol=1e-5)


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
@pytest.mark.parametrize("side", [448, 480])
def test_a_dilated_map_holds_the_undilated_one_at_every_second_or_fourth_place(
    engine: Engine, narrow: Checkpoint, side: int, output_stride: int, step: int
) -> None:
    """Away from the borders, whose padding differs, with the phase that the padding gives."""
    last = END_POINTS[-1]
    pixels = create_pixels(side, side)
    coarse = engine.run(pixels, [last]).arrays[last][0]
    fine = engine.run(pixels, [last], output_stride=output_stride).arrays[last][0]
    phase = _phase(narrow.config, side, step)
    held = fine[phase::step, phase::step]
    rows = slice(5, min(len(held), len(coarse)) - 5)
    assert rows.stop - rows.start >= 4
    assert relative_error(held[rows, rows], coarse[rows, rows]) <= TOLERANCE


def _phase(config: MobileNetV1Config, side: int, step: int) -> int:
    """Where the strided layers that were dilated sampled their maps.

    SAME pads an even map after its end alone, so that a stride of 2 samples the places 1, 3, ..; an
    odd one evenly, which samples 0, 2, ..; symmetric padding always samples 0, 2, ..
    """
    dilated = {2: 1, 4: 2}[step]
    phases = [
        int(before % 2 == 0 and config.tf_padding)
        for before in _sides_before_strides(config, side)[-dilated:]
    ]
    return sum(phase * 2**index for index, phase in enumerate(phases))


def _sides_before_strides(config: MobileNetV1Config, side: int) -> list[int]:
    before, sides = side, []
    for layer, rows, _ in config.maps(side, side):
        if layer.stride == 2:
            sides.append(before)
        before = rows
    return sides


@pytest.mark.parametrize("deepest", ["Conv2d_0", "Conv2d_5_pointwise", "Conv2d_11_pointwise"])
def test_nothing_after_the_deepest_wanted_layer_is_computed(
    narrow: Checkpoint, deepest: str
) -> None:
    graph = create_model(narrow, [deepest]).graph
    convolutions = [node.name.split("/")[0] for node in graph.node if node.op_type == "Conv"]
    names = [layer.end_point for layer in narrow.config.layers]
    assert convolutions == names[: names.index(deepest) + 1]
    assert not {"Gemm", "GlobalAveragePool"} & {node.op_type for node in graph.node}


def test_the_session_that_answers_a_shallow_request_has_no_deeper_nodes(
    narrow: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    session_type = onnxruntime.InferenceSession

    class Watched(session_type):  # type: ignore[misc, valid-type]  # a class of an untyped package
        def run(self, names: list[str], feeds: object) -> object:
            ran.append([output.name for output in self.get_outputs()])
            return super().run(names, feeds)

    monkeypatch.setattr("onnxruntime.InferenceSession", Watched)
    engine = OnnxEngine(narrow, threads=1)
    pixels = create_pixels(64, 64)
    engine.run(pixels, ["Conv2d_5_pointwise", "Conv2d_3_pointwise"])
    engine.run(pixels, ["Conv2d_1_pointwise", LOGITS])
    engine.run(pixels)
    assert ran[0] == list(END_POINTS[:6])
    assert ran[1] == [*END_POINTS, *default_outputs(narrow.config)]
    assert ran[2] == list(default_outputs(narrow.config))


def test_few_graphs_are_kept_and_the_least_recently_used_goes_first(
    narrow: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = 0

    class Counted(onnxruntime.InferenceSession):  # type: ignore[misc]  # of an untyped package
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal built
            built += 1
            super().__init__(*args, **kwargs)

    engine = OnnxEngine(narrow, threads=1)
    monkeypatch.setattr("onnxruntime.InferenceSession", Counted)
    pixels = create_pixels(32, 32)
    for number in (0, 1, 2, 3, 0, 4):
        engine.run(pixels, [END_POINTS[number]])
    assert built == 5
    for number in (2, 3, 0, 4):
        engine.run(pixels, [END_POINTS[number]])
    assert built == 5
    engine.run(pixels, [END_POINTS[1]])
    assert built == 6


def test_an_unknown_output_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="Conv2d_3_depthwise"):
        engine.run(create_pixels(32, 32), ["Conv2d_3_depthwise"])
