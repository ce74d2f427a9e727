from __future__ import annotations

import math

import pytest

from model.engines.onnx import float_graph
from tests.optional import torch  # noqa: F401  # skips this file where it is missing

# isort: split
from model.engines.torch.network import ACTIVATIONS, same_padding

pytestmark = pytest.mark.thorough


def test_both_engines_know_the_same_activations() -> None:
    assert ACTIVATIONS.keys() == float_graph.ACTIVATIONS.keys()


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
    assert (size + sum(expected) - kernel_size) // stride + 1 == math.ceil(size / stride)
