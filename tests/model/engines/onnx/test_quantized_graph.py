from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from model.engines import load_engine
from model.engines.onnx import sessions
from model.engines.onnx.engine import OnnxEngine
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.instructions import has_dot_product
from model.engines.onnx.model import create_model
from model.network.config import END_POINTS, LOGITS, OUTPUT_STRIDES, POOLED
from model.network.quantization import QuantizationParameters
from tests.model import quantized_twins as twins
from tests.model.quantized_twins import count_optimized_nodes, create_pixels, create_quantized
from tests.model.sources.tflite.litert import run_litert
from tests.model.sources.tflite.tflite_files import write_tflite
from tests.model.twins import tiny_config

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from model.checkpoints.checkpoint import Checkpoint
    from model.engines.base import Engine

VARIANTS: dict[str, dict[str, Any]] = {
    "relu6-levels": {},
    "levels-beyond-relu6": {"hidden": twins.WIDE},
    "a-scale-a-channel": {"per_channel": True},
    "mean": {"half_up": False},
    "mean-with-its-own-levels": {"half_up": False, "pooled": QuantizationParameters(0.02, 0)},
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def quantized(request: pytest.FixtureRequest) -> Checkpoint:
    return create_quantized(tiny_config(depth_multiplier=0.05), **VARIANTS[request.param])


def both_engines(checkpoint: Checkpoint) -> list[Engine]:
    return [
        load_engine(checkpoint, name=name, device="cpu", threads=1) for name in ("onnx", "torch")
    ]


def test_every_convolution_runs_as_integers_whatever_the_levels(
    quantized: Checkpoint, tmp_path: Path
) -> None:
    nodes = count_optimized_nodes(quantized, tmp_path / "optimized.onnx")
    assert nodes["QLinearConv"] == 28
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & nodes.keys()


def test_every_convolution_of_a_feature_extractor_runs_as_integers(tmp_path: Path) -> None:
    checkpoint = create_quantized(tiny_config(num_labels=0))
    nodes = count_optimized_nodes(checkpoint, tmp_path / "optimized.onnx")
    assert nodes["QLinearConv"] == 27


@pytest.mark.thorough
@pytest.mark.parametrize("side", [64, 97, 150])
def test_both_engines_give_litert_s_logits_level_for_level(
    quantized: Checkpoint, side: int
) -> None:
    assert quantized.quantization
    pooling = "AVERAGE_POOL_2D" if quantized.quantization.half_up else "MEAN"
    if side < 100 and len(quantized.quantization.layers["classifier"].scales) > 1:
        pytest.skip(
            "LiteRT's int8 AVERAGE_POOL_2D takes half a level, which even maps have, from 0"
        )
    pixels = create_pixels(side, side, count=8)
    content = write_tflite(quantized, side, pooling=pooling, softmax=False)
    expected = run_litert(content, pixels).reshape(8, -1)
    assert expected.std() > 0
    for engine in both_engines(quantized):
        np.testing.assert_allclose(engine.run(pixels).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_both_engines_give_the_same_levels_of_every_layer(
    quantized: Checkpoint, output_stride: int
) -> None:
    names = [*END_POINTS, POOLED, LOGITS]
    pixels = create_pixels(97, 131)
    ours, reference = (
        engine.run(pixels, names, output_stride=output_stride) for engine in both_engines(quantized)
    )
    for name in names:
        assert ours.arrays[name].dtype == np.float32
        assert len(np.unique(ours.arrays[name])) > 1
        np.testing.assert_allclose(
            ours.arrays[name], reference.arrays[name], rtol=0, atol=1e-5, err_msg=name
        )


def test_levels_stay_near_the_real_numbers_that_they_stand_for() -> None:
    config = tiny_config(depth_multiplier=0.05, num_labels=11)
    quantized = create_quantized(config)
    dequantized = create_quantized(config)
    object.__setattr__(dequantized, "quantization", None)
    pixels = create_pixels(96, 96)
    on_levels, real = (
        OnnxEngine(checkpoint, 1).run(pixels, [*END_POINTS]).arrays
        for checkpoint in (quantized, dequantized)
    )
    for name in END_POINTS[:4]:
        assert np.abs(on_levels[name] - real[name]).mean() < 0.1
        assert real[name].mean() > 0.2


def test_what_lies_beyond_relu6_is_cut_off() -> None:
    checkpoint = create_quantized(tiny_config(), hidden=twins.WIDE)
    maps = OnnxEngine(checkpoint, 1).run(create_pixels(64, 64), [*END_POINTS]).arrays
    assert min(feature_map.min() for feature_map in maps.values()) == 0
    assert max(feature_map.max() for feature_map in maps.values()) == pytest.approx(6)


def test_batch_mates_do_not_change_a_level() -> None:
    engine = OnnxEngine(create_quantized(tiny_config()), 1)
    pixels = create_pixels(64, 64, count=5)
    together = engine.run(pixels).logits
    for row in range(5):
        assert np.array_equal(engine.run(pixels[row : row + 1]).logits[0], together[row])


def test_nothing_after_the_deepest_wanted_layer_is_in_the_graph() -> None:
    checkpoint = create_quantized(tiny_config())
    model = create_model(checkpoint, ["Conv2d_0", "Conv2d_5_pointwise"], 16)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 11
    assert [output.name for output in model.graph.output] == ["Conv2d_0", "Conv2d_5_pointwise"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    stem, hidden = session.run(None, {PIXELS: create_pixels(64, 48)})
    assert stem.shape == (2, 32, 24, 8)
    assert hidden.shape == (2, 8, 6, 8)


@pytest.mark.thorough
def test_sums_beyond_single_precision_are_exact_in_the_torch_engine() -> None:
    checkpoint = create_quantized(tiny_config())
    assert checkpoint.quantization
    for layer in checkpoint.quantization.layers.values():
        layer.bias[0] = 2**24 + 1
    pixels = create_pixels(64, 64)
    ours, reference = (engine.run(pixels).logits for engine in both_engines(checkpoint))
    np.testing.assert_allclose(reference, ours, atol=1e-5)


def constants(checkpoint: Checkpoint, *, signed: bool) -> dict[str, NDArray[Any]]:
    model = create_model(checkpoint, signed_kernels=signed)
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if "/kernel/" in tensor.name
    }


def test_signed_kernels_stand_for_the_same_numbers(quantized: Checkpoint) -> None:
    unsigned, signed = (constants(quantized, signed=signed) for signed in (False, True))
    layers = [name.removesuffix("/levels") for name in unsigned if name.endswith("/levels")]
    assert len(layers) == 28
    for layer in layers:
        kernels = []
        for tensors, dtype in ((unsigned, np.uint8), (signed, np.int8)):
            levels, zero_point = tensors[f"{layer}/levels"], tensors[f"{layer}/zero_point"]
            assert levels.dtype == zero_point.dtype == dtype
            shape = (-1, 1, 1, 1) if zero_point.ndim else ()
            kernels.append(levels.astype(int) - zero_point.astype(int).reshape(shape))
        assert np.array_equal(*kernels)


@pytest.mark.parametrize("exact", [False, True])
def test_kernels_are_signed_where_the_cpu_sums_their_products_exactly(
    monkeypatch: pytest.MonkeyPatch, *, exact: bool
) -> None:
    written: list[bool] = []

    def create(*arguments: Any, signed_kernels: bool) -> ModelProto:
        written.append(signed_kernels)
        return create_model(*arguments, signed_kernels=signed_kernels)

    monkeypatch.setattr(sessions, "has_dot_product", lambda: exact)
    monkeypatch.setattr(sessions, "create_model", create)
    OnnxEngine(create_quantized(tiny_config()), 1)
    assert written == [exact]


@pytest.mark.skipif(not has_dot_product(), reason="needs a CPU with VNNI or Arm's dot product")
def test_signed_and_unsigned_kernels_give_the_same_levels(quantized: Checkpoint) -> None:
    pixels = create_pixels(97, 131)
    answers = []
    for signed in (False, True):
        model = create_model(quantized, [*END_POINTS, POOLED, LOGITS], signed_kernels=signed)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        answers.append(session.run(None, {PIXELS: pixels}))
    for unsigned, moved in zip(*answers, strict=True):
        assert np.array_equal(unsigned, moved)
