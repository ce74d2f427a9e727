"""Stand-ins for what is slow or random."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import Checkpoint
from model.engines.base import EngineOutput
from model.images.decoder import Decoder
from model.network.config import LOGITS, POOLED


def pixels(value: int, side: int = 1) -> NDArray[np.uint8]:
    """An image whose every value is `value`, so that its answer tells whose it is."""
    return np.full((side, side, 3), value % 256, np.uint8)


class FakeEngine:
    """Answers each image with its own first value; can be held, and can fail on purpose.

    Attributes:
        batches: the first values of each batch that ran, in order.
        alone: what the batcher said of each.
        outputs: what was wanted of each.
        strides: the output stride of each.
        entered: released once for each batch that begins.
        gate: batches wait for it; open unless `hold` was called.
    """

    name = "fake"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        # Under another digest: its answers are not the weights'.
        if checkpoint:
            self.checkpoint = replace(checkpoint, digest="fake")
        self._classes = checkpoint.config.num_labels if checkpoint else 3
        self._channels = checkpoint.config.num_features if checkpoint else 4
        self.streams = 2
        self.batches: list[list[int]] = []
        self.alone: list[bool] = []
        self.outputs: list[frozenset[str]] = []
        self.strides: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Callable[[list[int]], None] = lambda _: None
        self.shape: Callable[[EngineOutput], EngineOutput] = lambda output: output

    def hold(self) -> None:
        self.gate.clear()

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        values = [int(image.flat[0]) for image in pixels]
        self.batches.append(values)
        self.alone.append(alone)
        self.outputs.append(frozenset(outputs))
        self.entered.release()
        self.gate.wait()
        self.fail(values)
        rows = np.asarray(values, np.float32)[:, None]
        self.strides.append(output_stride)
        arrays = {}
        for name in outputs or (LOGITS, POOLED):
            vectors = np.repeat(rows, self._classes if name == LOGITS else self._channels, axis=1)
            is_map = name not in {LOGITS, POOLED}
            arrays[name] = vectors[:, None, None].repeat(2, 1).repeat(2, 2) if is_map else vectors
        return self.shape(EngineOutput(arrays))

    @property
    def computed(self) -> list[int]:
        return [value for batch in self.batches for value in batch]


class FakeClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class FakeLoop:
    """An event loop's clock, moved by hand; its tasks run on the real loop.

    Attributes:
        timers: how many have been started.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self._waiting: list[tuple[float, FakeTimer]] = []
        self.timers = 0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        self.timers += 1
        timer = FakeTimer(callback)
        self._waiting.append((when, timer))
        return timer

    @property
    def waiting(self) -> int:
        """How many timers will go off."""
        return sum(timer.armed for _, timer in self._waiting)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback)

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        until = self._now + seconds
        while due := [entry for entry in self._waiting if entry[0] <= until]:
            entry = min(due, key=lambda entry: entry[0])
            self._waiting.remove(entry)
            self._now = max(self._now, entry[0])
            entry[1].fire()
        self._now = until


class FakeTimer:
    """What `FakeLoop.call_at` gives."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def armed(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback:
            self._callback()


class FakeTransport(asyncio.Transport):
    """A connection whose other end is the test.

    Attributes:
        written: what the client was sent.
        writes: in how many pieces.
        unread: how much of it waits in the transport's buffer.
        ended: how it was closed, by the names of the methods that did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.unread = 0
        self.ended: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        self.written += data

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.writes += 1
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return bool({"close", "abort"}.intersection(self.ended))

    def write_eof(self) -> None:
        self.ended.append("write_eof")

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def watch_waiting(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set when a thread has found too little memory free and is about to wait."""
    waiting = threading.Event()
    condition = decoder._budget._changed
    wait = condition.wait

    def watched(timeout: float | None = None) -> bool:
        waiting.set()
        return wait(timeout)

    monkeypatch.setattr(condition, "wait", watched)
    return waiting
