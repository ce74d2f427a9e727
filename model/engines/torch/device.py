"""Runs PyTorch on a device: its threads or streams, and copies to it and back.

`upload`, of contiguous and writeable pixels, and `download` are called within `batch`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from model.errors import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_CUDA_STREAMS = 3
"""One batch on its way in, one being computed, one on its way out."""


class Cpu:
    """Gives all threads to a batch that runs alone, else one thread to each of as many batches."""

    name = "cpu"

    def __init__(self, threads: int) -> None:
        self.streams = threads

    @contextmanager
    def batch(self, *, alone: bool) -> Iterator[None]:
        """Set the number of threads that PyTorch uses on behalf of this one; see `Engine.run`."""
        threads = self.streams if alone else 1
        # A thread's first question resets its count to the one set last in the process.
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        yield

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Share the memory."""
        return torch.from_numpy(pixels)

    def download(self, arrays: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
        """Share the memory."""
        return {name: array.numpy() for name, array in arrays.items()}


class Cuda:
    """Gives each thread a CUDA stream; copies go through pinned memory while others compute.

    Raises:
        EngineUnavailableError: there is no CUDA device.
    """

    streams = _CUDA_STREAMS

    def __init__(self, device: str = "cuda") -> None:
        if not torch.cuda.is_available():
            raise EngineUnavailableError("device cuda: PyTorch finds no CUDA device")
        # cuDNN's default, TF32, has float16's 10 bits of fraction.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # PyTorch hides it from mypy
        self.name = device
        self._local = threading.local()

    @contextmanager
    def batch(self, *, alone: bool) -> Iterator[None]:  # noqa: ARG002  # a GPU shares itself out
        """Run on this thread's own stream."""
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        with torch.cuda.stream(self._local.stream):
            yield

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Copy without waiting."""
        return torch.from_numpy(pixels).pin_memory().to(self.name, non_blocking=True)

    def download(self, arrays: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
        """Copy all, into pinned memory, then wait once."""
        copies = {name: array.to("cpu", non_blocking=True) for name, array in arrays.items()}
        self._local.stream.synchronize()
        return {name: copy.numpy() for name, copy in copies.items()}
