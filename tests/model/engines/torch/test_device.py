from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.model.twins import create_checkpoint, tiny_config
from tests.optional import torch

# isort: split
from model.engines.torch import engine as torch_engine
from model.engines.torch.device import Cpu, Cuda
from model.engines.torch.engine import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.thorough


class FakeCuda:
    """Stands for `torch.cuda` on a machine without it, and writes down what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.streams: list[Any] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "Stream", self._create_stream)
        monkeypatch.setattr(torch.cuda, "stream", self._use)
        monkeypatch.setattr(torch.Tensor, "pin_memory", self._pin)

    def _create_stream(self) -> Any:
        self.streams.append(self)
        return self

    @contextmanager
    def _use(self, stream: Any) -> Iterator[None]:
        self.calls.append("enter")
        yield
        self.calls.append("leave")

    def _pin(self, *_: Any) -> torch.Tensor:
        self.calls.append("pin")
        return torch.zeros((1, 32, 32, 3), dtype=torch.uint8)

    def synchronize(self) -> None:
        self.calls.append("synchronize")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # PyTorch hides it from mypy
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32"
    yield FakeCuda(monkeypatch)
    convolutions.fp32_precision = before


@pytest.fixture
def engine(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> TorchEngine:
    """One that takes the CPU for a CUDA device."""
    monkeypatch.setattr(torch_engine, "Cuda", lambda: Cuda("cpu"))
    return TorchEngine(create_checkpoint(tiny_config()), 1, "cuda")


def test_on_cuda_pixels_are_pinned_and_answers_waited_for(
    engine: TorchEngine, cuda: FakeCuda
) -> None:
    engine.run(np.zeros((1, 32, 32, 3), np.uint8))
    assert cuda.calls == ["enter", "pin", "synchronize", "leave"]
    assert engine.streams > 1


def test_on_cuda_each_thread_keeps_a_stream_of_its_own(engine: TorchEngine, cuda: FakeCuda) -> None:
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    for _ in range(2):
        engine.run(pixels)
    thread = threading.Thread(target=engine.run, args=(pixels,))
    thread.start()
    thread.join()
    assert len(cuda.streams) == 2


@pytest.mark.usefixtures("cuda")
def test_on_cuda_float32_is_not_rounded_to_tf32() -> None:
    Cuda()
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]  # PyTorch hides it from mypy


def test_on_a_cpu_a_batch_among_others_has_one_thread_and_one_alone_has_all() -> None:
    device = Cpu(threads=3)
    seen = []
    for alone in (True, False):
        with device.batch(alone=alone):
            seen.append(torch.get_num_threads())
    assert seen == [3, 1]
    assert device.streams == 3


def test_streams_of_a_cpu_do_not_set_one_another_s_threads() -> None:
    device, barrier, seen = Cpu(threads=2), threading.Barrier(2), {}

    def run(alone: bool) -> None:  # noqa: FBT001  # a thread's only argument
        with device.batch(alone=alone):
            barrier.wait()
            seen[alone] = torch.get_num_threads()

    threads = [threading.Thread(target=run, args=(alone,)) for alone in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {True: 2, False: 1}
