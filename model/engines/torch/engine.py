"""The PyTorch engine, the default on a GPU and the reference on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model.engines.base import EngineOutput, check_request, default_outputs
from model.engines.torch.device import Cpu, Cuda
from model.engines.torch.network import Network, QuantizedNetwork

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint


class TorchEngine:
    """Runs the network on real numbers, or a quantized one on its levels.

    Raises:
        EngineUnavailableError: the device is `cuda`, and there is none.
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int, device: str = "cpu") -> None:
        self._device = Cuda() if device == "cuda" else Cpu(threads)
        self.checkpoint = checkpoint
        self.device = device
        self.streams = self._device.streams
        self._network = (
            QuantizedNetwork(checkpoint, checkpoint.quantization, self._device.name)
            if checkpoint.quantization
            else Network(checkpoint, self._device.name)
        )

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        check_request(pixels.shape[1:3], outputs)
        outputs = outputs or default_outputs(self.checkpoint.config)
        try:
            with torch.inference_mode(), self._device.batch(alone=alone):
                images = self._device.upload(np.require(pixels, requirements=["C", "W"]))
                arrays = self._network.run(images, outputs, output_stride)
                return EngineOutput(self._device.download(arrays))
        except torch.OutOfMemoryError as error:
            raise MemoryError("the device is out of memory") from error
