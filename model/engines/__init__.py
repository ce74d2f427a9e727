"""Runs batches, with ONNX Runtime or PyTorch; `load_engine` alone knows the engines' names."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import EngineUnavailableError

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Checkpoint
    from model.engines.base import Engine

__all__ = ["load_engine"]

_CUDA_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # of Linux, of WSL

# From its import on, ONNX Runtime reports to its maker and keeps a device id in the home directory;
# its switch works only before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load_engine(
    checkpoint: Checkpoint, *, name: str = "auto", device: str = "auto", threads: int = 1
) -> Engine:
    """Build the engine that runs a checkpoint.

    Args:
        checkpoint: to run.
        name: `onnx`, `torch`, or `auto`: torch on CUDA, onnx on a CPU.
        device: `cpu`, `cuda`, or `auto`: CUDA where PyTorch is installed and finds one.
        threads: cores to use on a CPU.

    Raises:
        EngineUnavailableError: the engine's package or device is not there.
        UnsupportedModelError: the engine cannot run this checkpoint.
    """
    if name == "auto":
        name = "torch" if device == "cuda" or (device == "auto" and _finds_cuda()) else "onnx"
    if name == "onnx":
        if device == "cuda":
            raise EngineUnavailableError("the onnx engine runs on the CPU; CUDA needs engine torch")
        from model.engines.onnx.engine import OnnxEngine

        return OnnxEngine(checkpoint, threads)
    if name == "torch":
        if importlib.util.find_spec("torch") is None:
            raise EngineUnavailableError(
                "engine torch: install the `torch` extra (pip install -e '.[torch]')"
            )
        from model.engines.torch.engine import TorchEngine

        if device == "auto":
            device = "cuda" if _finds_cuda() else "cpu"
        return TorchEngine(checkpoint, threads, device)
    raise EngineUnavailableError(f"engine {name!r} is not known; known are onnx and torch")


def _finds_cuda() -> bool:
    """Ask PyTorch for a CUDA device, without importing it on a machine without the driver."""
    if not any(path.exists() for path in _CUDA_DRIVERS):
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
