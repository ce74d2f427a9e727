"""Reads a safetensors file (https://github.com/huggingface/safetensors) as float32 arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from safetensors import SafetensorError

from model.errors import InvalidCheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def read_floats(data: bytes, skip: str) -> dict[str, NDArray[np.float32]]:
    """Read every tensor whose name does not end with `skip`; other precisions are rounded.

    Raises:
        InvalidCheckpointError: the file is damaged, or a tensor is not of floats.
    """
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # it has no types
    except SafetensorError as error:
        raise InvalidCheckpointError("is not a safetensors file, or is cut") from error
    return {name: _to_float32(name, one) for name, one in tensors if not name.endswith(skip)}


def _to_float32(name: str, tensor: Mapping[str, Any]) -> NDArray[np.float32]:
    """NumPy has no bfloat16: it is the upper half of a float32."""
    data, dtype = tensor["data"], tensor["dtype"]
    if dtype == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _FLOATS:
        values = np.frombuffer(data, _FLOATS[dtype]).astype(np.float32)
    else:
        raise InvalidCheckpointError(f"{name!r} is of type {dtype}, not a float")
    return values.reshape(tensor["shape"])
