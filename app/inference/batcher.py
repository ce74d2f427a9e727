"""The queue: entries in, batches out.

Callers wait on the event loop; streams, which are threads, take what waits and run it. There is no
timer and no polling: a free stream takes its share of what waits now, and one wake-up of the loop a
batch brings all its answers home.

Longer than other files by a few lines, because all that holds the queue's lock is here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import NotReadyError, ShuttingDownError
from app.inference.admission import Admission
from app.inference.batch import BatchRow, Entry, run_batch
from app.inference.health import UnderWay
from app.inference.quota import no_rest
from app.inference.streaks import FailureStreaks
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces
from model.engines.base import Engine

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_JOIN_S = 1.0
"""How long a stream may take to finish a batch that nobody waits for any more, in seconds."""


class DynamicBatcher:
    """Use as an async context manager: entering starts the streams, leaving drains and ends them.

    Args:
        streams: batches that run at once, each in a thread of its own.
        max_batch_size: entries a batch at most.
        admission: bounds what is inside; who submits holds a place of it.
        rest: called before each batch; see `app.inference.quota`.
        traces: get a span for each batch.
        now: monotonic clock in seconds.

    Attributes:
        batches: those that run.
        failures: of the engines.
    """

    def __init__(
        self,
        *,
        streams: int,
        max_batch_size: int,
        admission: Admission,
        metrics: Metrics,
        rest: Callable[[], None] = no_rest,
        traces: Traces | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.streams = streams
        self.max_batch_size = max_batch_size
        self.admission = admission
        self._metrics = metrics
        self._rest = rest
        self._traces = traces
        self._now = now
        self.batches = UnderWay(now)
        self.failures = FailureStreaks()
        self._waiting: list[Entry] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = 0
        self._threads: list[threading.Thread] = []
        self._dead = 0
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        """Start the streams."""
        self._loop = asyncio.get_running_loop()
        for number in range(self.streams):
            thread = threading.Thread(target=self._stream, name=f"stream-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain, then end the streams."""
        try:
            await self.drain()
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
        for thread in self._threads:
            thread.join(_JOIN_S)

    @property
    def healthy(self) -> bool:
        """Whether every stream lives."""
        return not self._dead

    @property
    def waiting(self) -> int:
        """How many entries wait for a batch."""
        return len(self._waiting)

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest of them has waited, in seconds; 0 if none does."""
        submitted = [entry.submitted for entry in self._waiting]
        return self._now() - min(submitted) if submitted else 0.0

    async def submit(
        self,
        engine: Engine,
        pixels: NDArray[np.uint8],
        outputs: frozenset[str],
        *,
        output_stride: int = 32,
    ) -> BatchRow:
        """Open an entry, enter its pixels, (height, width, channels), and await its row."""
        with self.open(engine, outputs, output_stride=output_stride) as entry:
            self.enter(entry, pixels)
            return await entry.answer

    @contextmanager
    def open(
        self,
        engine: Engine,
        outputs: frozenset[str],
        *,
        output_stride: int = 32,
    ) -> Iterator[Entry]:
        """An entry whose answer can be awaited inside; the caller holds a place.

        Args:
            engine: what computes it.
            outputs: names of the engine's outputs that are wanted.
            output_stride: see `MobileNetV1Config.layers_at`.

        Raises:
            ModelOutputInvalidError: the engine's row for it is no answer.
            OutOfMemoryError: it does not fit into memory, even alone.
            NotReadyError: no stream lives, or the one that held it died.
            AppError: the engine failed on it.
        """
        if self._dead == self.streams:
            raise NotReadyError
        answer = self._loop.create_future()
        request = self._traces.request if self._traces else None
        entry = Entry(engine, outputs, output_stride, answer, request)
        try:
            yield entry
        finally:
            self._discard(entry)

    def enter(self, entry: Entry, pixels: NDArray[np.uint8]) -> None:
        """Queue an entry, from any thread: its pixels, (height, width, channels), are here."""
        entry.pixels = pixels
        entry.submitted = self._now()
        with self._changed:
            if lives := self._dead < self.streams:
                self._waiting.append(entry)
                self._changed.notify()
        if not lives:
            self.fail(entry, NotReadyError())

    def fail(self, entry: Entry, error: BaseException) -> None:
        """Give an entry's caller an error, from any thread: there are no pixels."""
        self._call_loop(_settle, [(entry, error)])

    async def drain(self) -> None:
        """Let nobody in any more, and wait until the last place is given back."""
        self.admission.close(ShuttingDownError)
        await self.admission.wait_empty()

    def _discard(self, entry: Entry) -> None:
        """Forget an entry whose caller is gone; it need not be waiting."""
        with self._changed:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _stream(self) -> None:
        """One thread: take a batch, run it, deliver; until told to stop."""
        batch: list[Entry] = []
        try:
            while taken := self._take():
                batch, alone = taken
                try:
                    self._rest()
                    traced = self._traces.batch(batch) if self._traces else nullcontext()
                    with self.batches.piece(), traced:
                        outcomes = run_batch(batch, alone=alone, now=self._now)
                finally:
                    with self._changed:
                        self._busy -= 1
                self.failures.record(batch[0].engine, [outcome for _, outcome in outcomes])
                self._metrics.batch_size.observe(len(batch))
                self._call_loop(_settle, outcomes)
        except BaseException:  # noqa: BLE001  # whatever it was, nobody may wait for this thread any longer
            _log.critical("A stream died; the service is no longer ready.", exc_info=True)
            self._call_loop(self._bury, batch)

    def _take(self) -> tuple[list[Entry], bool] | None:
        """Wait for a batch; also say whether it is alone. None means stop."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                self._drop_left()
                if self._waiting:
                    break
                if self._stopping:
                    return None
            first = self._waiting[0]
            most = first.limit(self.max_batch_size)
            share = min(most, math.ceil(len(self._waiting) / self.streams))
            batch = [entry for entry in self._waiting if entry.can_join(first)][:share]
            self._waiting = [entry for entry in self._waiting if entry not in batch]
            alone = self.streams == 1 or not (self._busy or self._waiting)
            self._busy += 1
        return batch, alone

    def _drop_left(self) -> None:
        """Forget those whose pixels came after their caller had left."""
        self._waiting = [entry for entry in self._waiting if not entry.answer.done()]

    def _call_loop(self, callback: Callable[[_T], None], argument: _T) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, argument)

    def _bury(self, batch: list[Entry]) -> None:
        """Fail those who waited for a dead stream, and everybody if it was the last one."""
        entries = list(batch)
        with self._changed:
            self._dead += 1
            if self._dead == self.streams:
                entries += self._waiting
        if self._dead == self.streams:
            self.admission.close(NotReadyError)
        _settle([(entry, NotReadyError()) for entry in entries])


def _settle(outcomes: Sequence[tuple[Entry, BatchRow | BaseException]]) -> None:
    for entry, outcome in outcomes:
        entry.settle(outcome)
