"""The same image asked twice is computed once."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import numpy as np

from app.errors import AppError, DeadlineExceededError
from app.inference.answers import CacheOutcome, Outputs, Stages
from app.inference.plan import Image, Plan
from app.telemetry.metrics import Metrics

Key = tuple[bytes, tuple[int, ...] | None, Plan]
"""An image's digest, its shape if it came as pixels, and what is computed of it."""

_T = TypeVar("_T")
_Compute = Callable[[], Coroutine[Any, Any, _T]]
_Answer = Outputs | AppError

_ON_LOOP_BYTES: Final = 1024 * 1024
"""Up to here an image is digested on the event loop, in less than a millisecond."""
_ENTRY_BYTES: Final = 3072
"""What an entry takes besides its numbers, at most."""
_NO_TIME: Final = Stages(0.0, 0.0, 0.0)


class ResultCache:
    """Outputs by key, in so many bytes; what was not asked for the longest leaves first.

    May be used from several threads. With `max_bytes` 0 it keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[Key, tuple[Outputs, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def get(self, key: Key) -> Outputs | None:
        """What is kept under a key."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Key, outputs: Outputs) -> None:
        """Keep a copy, unless it is larger than all that may be kept."""
        size = _ENTRY_BYTES + sum(array.nbytes for array in outputs.arrays.values())
        if size > self._max_bytes:
            return
        # A row is a view, which would keep its whole batch.
        copies = {name: np.array(array) for name, array in outputs.arrays.items()}
        entry = _protect(Outputs(copies, _NO_TIME, outputs.batch_size, outputs.source, "hit")), size
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key)[1]
            self._entries[key] = entry
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][1]


@dataclass(eq=False, slots=True)
class _Computation(Generic[_T]):
    task: asyncio.Task[_T]
    callers: int = 0


class SharedComputations(Generic[_T]):
    """Computations that run, by key; each in a task of its own, for as long as a caller waits."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Computation[_T]] = {}

    async def run(self, key: Hashable, compute: _Compute[_T], timeout_s: float) -> tuple[_T, bool]:
        """Await the computation of a key; also say whether somebody else had begun it.

        A caller that is cancelled, or has no more time, leaves the others alone; with the last one
        the computation is cancelled, and has ended when this returns.

        Raises:
            DeadlineExceededError: this caller's time is up.
            AppError: the computation's own; every caller has it.
        """
        computation = self._running.get(key)
        shared = computation is not None
        if computation is None:
            computation = self._running[key] = _Computation(asyncio.create_task(compute()))
            computation.task.add_done_callback(partial(self._forget, key))
        task = computation.task
        computation.callers += 1
        try:
            await asyncio.wait((task,), timeout=timeout_s)
            if not task.done():
                raise DeadlineExceededError
        finally:
            computation.callers -= 1
            if not (computation.callers or task.done()):
                self._forget(key, task)
                task.cancel()
                await asyncio.wait((task,))
        return task.result(), shared

    def _forget(self, key: Hashable, task: asyncio.Task[_T]) -> None:
        """Whoever asks from now on begins anew."""
        if (running := self._running.get(key)) and running.task is task:
            del self._running[key]
        if task.done() and not task.cancelled():
            task.exception()  # perhaps nobody is left to be told


class SharedAnswers:
    """Stands between the service and the queue: looks for an answer before one is computed.

    Args:
        max_bytes: of the cache.
        metrics: count what was found.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._cache = ResultCache(max_bytes)
        self._images: SharedComputations[Outputs] = SharedComputations()
        self._requests: SharedComputations[dict[Key, _Answer]] = SharedComputations()
        outcomes: tuple[CacheOutcome, ...] = ("hit", "shared", "miss")
        self._counts = {one: metrics.cache_requests.labels(one) for one in outcomes}
        metrics.cache_bytes.set_function(lambda: self._cache.size)

    async def one(
        self, image: Image, plan: Plan, compute: _Compute[Outputs], timeout_s: float
    ) -> Outputs:
        """The outputs of one image: kept, being computed for somebody else, or computed now.

        Raises:
            DeadlineExceededError: the caller's time is up, whoever else still waits.
            AppError: that of the computation.
        """
        started = time.perf_counter()
        (key,) = await _create_keys([image], plan)
        if found := self._cache.get(key):
            self._counts["hit"].inc()
            return found

        async def compute_and_keep() -> Outputs:
            outputs = _protect(await compute())
            self._cache.put(key, outputs)
            return outputs

        outputs, shared = await self._images.run(key, compute_and_keep, timeout_s)
        self._counts["shared" if shared else "miss"].inc()
        if not shared:
            return outputs
        waited = Stages(0.0, time.perf_counter() - started, 0.0)
        return Outputs(outputs.arrays, waited, outputs.batch_size, outputs.source, "shared")

    async def many(
        self,
        images: Sequence[Image],
        plan: Plan,
        compute: Callable[[Sequence[Image]], Coroutine[Any, Any, list[_Answer]]],
        timeout_s: float,
    ) -> list[_Answer]:
        """The outputs of the images of one request, in order; the same image is computed once.

        What is not kept is shared with a request that has the same to compute, and no other.

        Raises:
            As `one`, for all of the images.
        """
        keys = await _create_keys(images, plan)
        answers: dict[Key, _Answer] = {
            key: found for key in set(keys) if (found := self._cache.get(key))
        }
        hits = sum(key in answers for key in keys)
        rest = {key: image for key, image in zip(keys, images, strict=True) if key not in answers}
        misses = 0
        if rest:

            async def compute_and_keep() -> dict[Key, _Answer]:
                computed = dict(zip(rest, await compute(list(rest.values())), strict=True))
                for key, answer in computed.items():
                    if isinstance(answer, Outputs):
                        self._cache.put(key, _protect(answer))
                return computed

            computed, shared = await self._requests.run(tuple(rest), compute_and_keep, timeout_s)
            answers |= computed
            misses = 0 if shared else len(rest)
        self._counts["hit"].inc(hits)
        self._counts["miss"].inc(misses)
        self._counts["shared"].inc(len(keys) - hits - misses)
        return [answers[key] for key in keys]


async def _create_keys(images: Sequence[Image], plan: Plan) -> list[Key]:
    size = sum(image.nbytes if isinstance(image, np.ndarray) else len(image) for image in images)
    if size <= _ON_LOOP_BYTES:
        return _digest(images, plan)
    return await asyncio.to_thread(_digest, images, plan)


def _digest(images: Iterable[Image], plan: Plan) -> list[Key]:
    # Pixels may be the bytes of somebody's file; the shape tells them apart.
    return [
        (hashlib.sha256(image).digest(), None, plan)
        if isinstance(image, bytes)
        else (hashlib.sha256(np.ascontiguousarray(image).data).digest(), image.shape, plan)
        for image in images
    ]


def _protect(outputs: Outputs) -> Outputs:
    """See that no caller changes what others read."""
    for array in outputs.arrays.values():
        array.flags.writeable = False
    return outputs
