"""LiteRT itself, with its default kernels (XNNPACK's)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AS_INT8 = 128
"""What turns a byte into the same level as int8, by XOR."""


def run_litert(content: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a `.tflite` file answers to pixels, as real numbers.

    Args:
        content: of the file.
        pixels: (n, height, width, 3); run one by one, as the files want it.

    Returns:
        (n, ...) in the output's own shape.
    """
    litert = pytest.importorskip(
        "ai_edge_litert.interpreter",
        reason="ai-edge-litert is not installed: `make test-all` installs it",
    )
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in pixels:
        interpreter.set_tensor(source["index"], _to_input(image[None], source["dtype"]))
        interpreter.invoke()
        rows.append(_to_real(interpreter.get_tensor(target["index"])[0], target["quantization"]))
    return np.stack(rows)


def _to_input(pixels: NDArray[np.uint8], dtype: type) -> NDArray[Any]:
    if dtype is np.float32:
        return pixels / np.float32(127.5) - np.float32(1)
    if dtype is np.int8:
        return (pixels ^ _AS_INT8).view(np.int8)
    return pixels


def _to_real(levels: NDArray[Any], quantization: tuple[float, int]) -> NDArray[np.float32]:
    if levels.dtype == np.float32:
        return levels
    scale, zero_point = quantization
    return (levels.astype(np.float32) - zero_point) * np.float32(scale)
