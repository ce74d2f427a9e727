from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.checkpoints.checkpoint import load_checkpoint
from model.errors import InvalidCheckpointError, ModelError
from model.sources.load import convert_model
from model.sources.tflite.chain import read_chain
from tests.model.quantized_twins import create_quantized
from tests.model.sources.refusal import refused_import
from tests.model.sources.tflite.test_checkpoint import CONFIG, SIDE, create_folded
from tests.model.sources.tflite.tflite_files import TfliteWriter, write_tflite

if TYPE_CHECKING:
    from pathlib import Path

    from model.sources.tflite.chain import Operator, Tensor


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


def write_operator(name: str) -> bytes:
    """A file of one operator on the input."""
    writer = TfliteWriter()
    first, last = (writer.tensor((1, SIDE, SIDE, 3), "float32") for _ in range(2))
    writer.operator(name, [first], last)
    return writer.finish(first, last)


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("ADD", "a MobileNet V2"),
        ("CONCATENATION", "a detector"),
        ("CUSTOM", "a detector"),
        ("CONV_2D", "has no options"),
        ("LOGISTIC", "LOGISTIC stands where CONV_2D 1 of 27 should"),
    ],
)
def test_another_network_is_refused_saying_what_it_is(
    source: Path, operator: str, reason: str
) -> None:
    assert reason in refused_import(source, write_operator(operator))


def test_branches_are_refused(source: Path) -> None:
    writer = TfliteWriter()
    first, left, right = (writer.tensor((1, SIDE, SIDE, 3), "float32") for _ in range(3))
    writer.operator("SOFTMAX", [first], left, "SoftmaxOptions", Beta=1.0)
    writer.operator("SOFTMAX", [first], right, "SoftmaxOptions", Beta=1.0)
    assert "not a chain" in refused_import(source, writer.finish(first, right))


def test_another_activation_is_refused(source: Path) -> None:
    content = write_tflite(create_folded(), SIDE, activation="TANH")
    assert "TANH" in refused_import(source, content)


def test_other_strides_are_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = tuple(CONFIG.layers_at(16))
    with monkeypatch.context() as patch:
        patch.setattr(type(CONFIG), "layers", property(lambda _: layers))
        content = write_tflite(create_folded(), SIDE)
    assert "stride" in refused_import(source, content)


def test_a_pooling_of_a_part_of_the_map_is_refused(source: Path) -> None:
    content = bytearray(write_tflite(create_folded(), 96))
    # The window is the only pair of threes in its options, behind strides of one.
    place = content.rindex(b"\x03\x00\x00\x00\x03\x00\x00\x00")
    content[place] = 2
    assert refused_import(source, bytes(content))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_is_refused(source: Path, share: float) -> None:
    content = write_tflite(create_quantized(CONFIG), SIDE)
    assert refused_import(source, content[: int(len(content) * share)])


def test_random_bytes_are_refused(source: Path) -> None:
    noise = np.random.default_rng(3).bytes(50_000)
    assert "is damaged" in refused_import(source, noise[:4] + b"TFL3" + noise)


@pytest.mark.parametrize("count", [0, 1])
def test_a_convolution_that_reads_too_little_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def read_less(data: bytes) -> tuple[Tensor, list[Operator]]:
        pixels, chain = read_chain(data)
        return pixels, [replace(one, inputs=one.inputs[:count]) for one in chain]

    monkeypatch.setattr("model.sources.tflite.checkpoint.read_chain", read_less)
    content = write_tflite(create_quantized(CONFIG), SIDE)
    assert "do not fit" in refused_import(source, content)


def test_logits_that_go_through_an_activation_are_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def activate(data: bytes) -> tuple[Tensor, list[Operator]]:
        pixels, chain = read_chain(data)
        last = [one.name for one in chain].index("AVERAGE_POOL_2D") + 1
        chain[last] = replace(chain[last], activation="RELU")
        return pixels, chain

    monkeypatch.setattr("model.sources.tflite.checkpoint.read_chain", activate)
    content = write_tflite(create_quantized(CONFIG), SIDE)
    assert refused_import(source, content).endswith("its logits go through RELU")


DAMAGED = write_tflite(create_quantized(CONFIG), SIDE)


@pytest.mark.thorough
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(8, len(DAMAGED) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_damage_ends_in_a_refusal_or_in_a_sound_checkpoint(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(DAMAGED)
    for place, value in changes:
        content[place] = value
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    reason = ""
    try:
        convert_model(str(path), tmp_path / "imported")
    except InvalidCheckpointError as error:
        reason = str(error)
    if reason:
        assert len(reason.splitlines()) == 1
    else:
        load_checkpoint(tmp_path / "imported")


def test_the_missing_extra_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_bytes(DAMAGED)
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[convert\]'"):
        convert_model(str(source), source.parent / "imported")
