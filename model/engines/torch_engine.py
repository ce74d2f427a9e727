"""PyTorch: the reference engine, and the default on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model.architecture import create_network
from model.engines.base import POOLED, EngineOutput
from model.engines.quantized_network import LOGITS, QuantizedNetwork
from model.errors import EngineUnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.checkpoint import Checkpoint


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
        *,
        alone: bool = True,  # noqa: ARG002  # PyTorch's thread pool is one for the process
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        try:
            return self._run(pixels)
        except torch.OutOfMemoryError as error:
            raise MemoryError("the device is out of memory") from error

    def _run(self, pixels: NDArray[np.uint8]) -> EngineOutput:
        with torch.inference_mode():
            images = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
            if self._quantized is not None:
                real = self._quantized(images)
                pooled, logits = real[POOLED], real.get(LOGITS, real[POOLED][:, :0])
                return EngineOutput(logits.cpu().numpy(), {POOLED: pooled.cpu().numpy()})
            scaled = images / self._scale - self._offset
            *_, last = self._network.forward_features(scaled.permute(0, 3, 1, 2)).values()
            pooled, logits = self._network.forward_head(last)
        return EngineOutput(logits.cpu().numpy(), {POOLED: pooled.cpu().numpy()})
