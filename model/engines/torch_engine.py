"""PyTorch: the reference engine, and the default on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model.architecture import create_network
from model.config import LOGITS, POOLED
from model.engines.base import (
    EngineOutput,
    deepest_layer,
    default_outputs,
)
from model.engines.quantized_network import QuantizedNetwork
from model.errors import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from model.checkpoint import Checkpoint

_VECTORS = 2  # dimensions of (n, channels)


class TorchEngine:
    """Runs the network of `model.architecture` as it stands, or a quantized one level for level.

    Raises:
        EngineUnavailableError: the device is `cuda`, and there is none.
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int, device: str = "cpu") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailableError("device cuda: PyTorch finds no CUDA device")
        torch.set_num_threads(threads)
        self.checkpoint = checkpoint
        self.device = device
        self.streams = 1
        self._quantized = None
        if checkpoint.quantization:
            self._quantized = QuantizedNetwork(checkpoint, checkpoint.quantization).to(device)
        weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
        self._network = create_network(checkpoint.config, weights).to(device)
        scale, offset = checkpoint.preprocessing.scale_and_offset()
        self._scale = torch.from_numpy(scale).to(device)
        self._offset = torch.from_numpy(offset).to(device)

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,  # noqa: ARG002  # PyTorch's thread pool is one for the process
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        wanted = outputs or default_outputs(self.checkpoint.config)
        try:
            with torch.inference_mode():
                arrays = self._run(pixels, wanted, output_stride)
                return EngineOutput({name: arrays[name].cpu().numpy() for name in wanted})
        except torch.OutOfMemoryError as error:
            raise MemoryError("the device is out of memory") from error

    def _run(
        self, pixels: NDArray[np.uint8], wanted: Collection[str], output_stride: int
    ) -> dict[str, Tensor]:
        deepest = deepest_layer(wanted)
        images = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
        if self._quantized is not None:
            arrays = self._quantized(images, output_stride, deepest)
        else:
            scaled = (images / self._scale - self._offset).permute(0, 3, 1, 2)
            arrays = self._network.forward_features(scaled, output_stride, deepest)
            if deepest is None:
                *_, last = arrays.values()
                arrays[POOLED], arrays[LOGITS] = self._network.forward_head(last)
        return {
            name: array.permute(0, 2, 3, 1) if array.ndim > _VECTORS else array
            for name, array in arrays.items()
            if name in wanted
        }
