"""PyTorch: the default engine on a GPU, and the second opinion on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from model.engines.base import EngineOutput, deepest_layer, default_outputs
from model.engines.torch.device import Cpu, Cuda, TorchDevice
from model.engines.torch.folded_network import FoldedNetwork
from model.engines.torch.quantized_network import QuantizedNetwork

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

_MAP_DIMENSIONS = 4


class TorchEngine:
    """Runs the folded network, or a quantized one level for level.

    Raises:
        EngineUnavailableError: the device is `cuda`, and there is none.
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int, device: str = "cpu") -> None:
        self._device: TorchDevice = Cuda() if device == "cuda" else Cpu(threads)
        self.checkpoint = checkpoint
        self.device = device
        self.streams = self._device.streams
        network: nn.Module = (
            QuantizedNetwork(checkpoint, checkpoint.quantization)
            if checkpoint.quantization
            else FoldedNetwork(checkpoint)
        )
        self._network = network.to(device).eval()

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        wanted = outputs or default_outputs(self.checkpoint.config)
        deepest = deepest_layer(wanted)
        try:
            with torch.inference_mode(), self._device.batch(alone=alone):
                images = self._device.upload(np.require(pixels, requirements=["C", "W"]))
                arrays = self._network(images, output_stride, deepest)
                rows = {
                    name: array.permute(0, 2, 3, 1) if array.ndim == _MAP_DIMENSIONS else array
                    for name, array in arrays.items()
                    if name in wanted
                }
                return EngineOutput(self._device.download(rows))
        except torch.OutOfMemoryError as error:
            raise MemoryError("the device is out of memory") from error

    def trim(self) -> None:
        """Do nothing: on a CPU it keeps nothing, and on a GPU the device is its own."""
