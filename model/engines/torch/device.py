"""Where PyTorch runs a batch: its threads or streams, and how arrays get there and back."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch

from model.errors import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_CUDA_STREAMS = 3
"""One batch on its way in, one computed, one on its way out."""


class TorchDevice(Protocol):
    """One of the two below; `upload` and `download` are called within `batch`."""

    name: str
    streams: int

    @contextmanager
    def batch(self, *, alone: bool) -> Iterator[None]:
        """Make this thread ready for one batch; see `Engine.run` for `alone`."""
        ...

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Bring pixels, contiguous and writeable, to the device."""
        ...

    def download(self, arrays: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
        """Wait for arrays, and bring them back."""
        ...


class Cpu:
    """All threads for a batch that is alone, else one thread each, as many batches as threads."""

    name = "cpu"

    def __init__(self, threads: int) -> None:
        self.streams = threads

    @contextmanager
    def batch(self, *, alone: bool) -> Iterator[None]:
        """Set how many threads PyTorch uses for what this thread asks of it."""
        threads = self.streams if alone else 1
        # Asking first matters: a new thread's first question sets the process's last answer.
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        yield

    def upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Nothing to bring."""
        return torch.from_numpy(pixels)

    def download(self, arrays: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
        """Nothing to bring back."""
        return {name: array.numpy() for name, array in arrays.items()}


class Cuda:
    """Each thread has a CUDA stream; copies go through pinned memory while others compute.

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
        """Copy all, which PyTorch does into pinned memory, then wait once."""
        copies = {name: array.to("cpu", non_blocking=True) for name, array in arrays.items()}
        self._local.stream.synchronize()
        return {name: copy.numpy() for name, copy in copies.items()}
