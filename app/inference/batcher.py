"""Queues images and runs them in batches.

Callers wait on the event loop; streams, which are threads, take what waits and run it. There is no
timer and no polling: a free stream takes its share of what waits now, and delivers all the answers
of a batch with one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import SpanContext

from app.errors import NotReadyError, ShuttingDownError, UnavailableError
from app.inference.admission import Admission
from app.inference.batch import BatchItem, BatchRow, Outcome, run_batch
from app.inference.health import CircuitBreaker, InFlight
from app.inference.plan import Plan
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_USUAL_PIXELS = 224 * 224
_JOIN_S = 1.0
"""How long a stream may take to finish a batch that nobody waits for any more, in seconds."""

FutureRow = asyncio.Future[BatchRow]
"""Awaited by the caller of one image; belongs to the event loop."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry(BatchItem):
    """One image in the queue.

    Attributes:
        cost: predicted work of computing it, in default images.
        submitted: when it was queued, in seconds on the batcher's clock.
        request: the span of its request, if that is traced.
    """

    answer: FutureRow
    cost: float
    submitted: float
    request: SpanContext | None

    def can_join(self, other: Entry) -> bool:
        """Whether the two may be in one batch."""
        return (
            self.plan.engine is other.plan.engine
            and self.plan.output_stride == other.plan.output_stride
            and self.pixels.shape == other.pixels.shape
        )

    def limit(self, max_batch_size: int) -> int:
        """How many like it fit a batch: the memory of so many usual images, but at least one."""
        height, width, _ = self.pixels.shape
        work: int = height * width * (32 // self.plan.output_stride) ** 2
        return max(1, min(max_batch_size, max_batch_size * _USUAL_PIXELS // max(1, work)))


class DynamicBatcher:
    """Use as an async context manager: entering starts the streams, leaving drains and ends them.

    Args:
        streams: batches that run at once, each in a thread of its own.
        admission: bounds the work in flight; every caller holds a place of it.
        throttle: called before each batch; see `app.inference.quota`.

    Attributes:
        in_flight: the batches that run.
        breaker: tells which engines are broken.
    """

    def __init__(
        self,
        *,
        streams: int,
        max_batch_size: int,
        admission: Admission,
        metrics: Metrics,
        throttle: Callable[[], None] = lambda: None,
        traces: Traces | None = None,
        now: Callable[[], float] = time.monotonic,
        cpu_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self.streams = streams
        self.max_batch_size = max_batch_size
        self.admission = admission
        self._metrics = metrics
        self._throttle = throttle
        self._traces = traces
        self._now = now
        self._cpu_time = cpu_time
        self.in_flight = InFlight(now)
        self.breaker = CircuitBreaker()
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
        """How many images wait for a batch."""
        return len(self._waiting)

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest of them has waited, in seconds; 0 if none does."""
        submitted = [entry.submitted for entry in self._waiting]
        return self._now() - min(submitted) if submitted else 0.0

    @contextmanager
    def expect(self) -> Iterator[FutureRow]:
        """Create the future of one image's row; once this is left, the image is not computed.

        The caller holds a place of the admission. The future's error may be ModelOutputInvalidError
        (the row is not finite), OutOfMemoryError (even alone), NotReadyError (the image's stream
        died) or AppError (the engine failed on it).

        Raises:
            NotReadyError: no stream lives.
        """
        if self._dead == self.streams:
            raise NotReadyError
        answer: FutureRow = self._loop.create_future()
        try:
            yield answer
        finally:
            answer.cancel()
            if answer.cancelled():
                with self._changed:
                    self._drop_abandoned()

    def submit(
        self,
        answer: FutureRow,
        plan: Plan,
        cost: float,
        request: SpanContext | None,
        pixels: NDArray[np.uint8],
    ) -> None:
        """Queue an image, (height, width, channels), from any thread; see `Entry`."""
        entry = Entry(plan, pixels, answer, cost, self._now(), request)
        with self._changed:
            if alive := self._dead < self.streams:
                self._waiting.append(entry)
                self._changed.notify()
        if not alive:
            self.fail(answer, NotReadyError())

    def fail(self, answer: FutureRow, error: BaseException) -> None:
        """Answer with an error, from any thread."""
        self._call_loop(_deliver, [(answer, error)])

    async def drain(self) -> None:
        """Admit nothing more, and wait until everything in flight is answered."""
        self.admission.close(ShuttingDownError)
        await self.admission.wait_empty()

    def _stream(self) -> None:
        """Run one thread: take a batch, run it, deliver; until told to stop."""
        batch: list[Entry] = []
        try:
            while taken := self._take():
                batch, alone = taken
                try:
                    self._throttle()
                    outcomes = self._run(batch, alone=alone)
                finally:
                    with self._changed:
                        self._busy -= 1
                self._report(batch[0], outcomes)
                answers = (entry.answer for entry in batch)
                self._call_loop(_deliver, list(zip(answers, outcomes, strict=True)))
        except BaseException:  # noqa: BLE001  # whatever it was, no caller may wait for this thread
            _log.critical("A stream died; the service is no longer ready.", exc_info=True)
            self._call_loop(self._fail_dead_stream, batch)

    def _run(self, batch: Sequence[Entry], *, alone: bool) -> list[Outcome]:
        requests = [entry.request for entry in batch]
        traced = self._traces.batch(requests) if self._traces else nullcontext()
        # Of all the cores that work on a batch only the one that began it has its time counted.
        whole = alone or batch[0].plan.engine.device != "cpu"
        clock = self._now if whole else self._cpu_time
        with self.in_flight.track(), traced as span:
            started = clock()
            outcomes = run_batch(batch, alone=alone, now=self._now, span=span)
            seconds = (clock() - started) * (self.streams if whole else 1)
        if all(isinstance(outcome, BatchRow) for outcome in outcomes):
            self.admission.image_s.learn(seconds, sum(entry.cost for entry in batch))
        return outcomes

    def _report(self, first: Entry, outcomes: Sequence[Outcome]) -> None:
        """Tell the log, the metrics and the circuit breaker of a batch."""
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and outcome.__cause__:
                _log.error("The engine failed on an image.", exc_info=outcome.__cause__)
        self._metrics.batch_size.observe(len(outcomes))
        if any(isinstance(outcome, BatchRow) for outcome in outcomes):
            self.breaker.answered(first.plan.engine)
        # A lack of memory says nothing about the engine.
        elif not any(isinstance(outcome, UnavailableError) for outcome in outcomes):
            self.breaker.failed(first.plan.engine)

    def _take(self) -> tuple[list[Entry], bool] | None:
        """Wait for a batch and whether it runs alone; None means stop."""
        with self._changed:
            self._drop_abandoned()
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
                self._drop_abandoned()
            first = self._waiting[0]
            most = first.limit(self.max_batch_size)
            share = min(most, math.ceil(len(self._waiting) / self.streams))
            batch = [entry for entry in self._waiting if entry.can_join(first)][:share]
            self._waiting = [entry for entry in self._waiting if entry not in batch]
            alone = self.streams == 1 or not (self._busy or self._waiting)
            self._busy += 1
        return batch, alone

    def _drop_abandoned(self) -> None:
        """Forget the images whose callers have left; the lock is held."""
        self._waiting = [entry for entry in self._waiting if not entry.answer.done()]

    def _call_loop(self, callback: Callable[[_T], None], argument: _T) -> None:
        with suppress(RuntimeError):  # the loop is closed: no caller is left
            self._loop.call_soon_threadsafe(callback, argument)

    def _fail_dead_stream(self, batch: list[Entry]) -> None:
        """Fail the batch of a dead stream, and all that waits if it was the last one."""
        with self._changed:
            self._dead += 1
            if self._dead == self.streams:
                batch, self._waiting = batch + self._waiting, []
                self.admission.close(NotReadyError)
        _deliver([(entry.answer, NotReadyError()) for entry in batch])


def _deliver(outcomes: Sequence[tuple[FutureRow, BatchRow | BaseException]]) -> None:
    """Give each caller that still waits its outcome; only on the event loop."""
    for answer, outcome in outcomes:
        if answer.done():
            continue
        if isinstance(outcome, BatchRow):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
