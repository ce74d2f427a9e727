"""A batcher, and callers that wait in its queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import anyio.lowlevel

from app.inference.admission import Admission
from app.inference.batch import BatchRow
from app.inference.batcher import DynamicBatcher
from app.inference.estimate import Estimate
from app.inference.plan import Plan
from app.telemetry.metrics import Metrics
from model.network.config import LOGITS, POOLED
from tests.fakes import FakeClock, FakeEngine, pixels

BOTH = frozenset({LOGITS, POOLED})


def create_admission(
    capacity: float = math.inf, images_per_s: float = 100, now: Callable[[], float] | None = None
) -> Admission:
    """Of one stream, which learns of no batch before a test tells it."""
    return Admission(
        queue_s=capacity / images_per_s,
        streams=1,
        running=0,
        image_s=Estimate(1 / images_per_s),
        now=now or FakeClock(),
    )


def create_batcher(
    streams: int = 1,
    max_batch_size: int = 8,
    capacity: float = math.inf,
    now: Callable[[], float] | None = None,
    cpu_time: Callable[[], float] | None = None,
) -> DynamicBatcher:
    return DynamicBatcher(
        streams=streams,
        max_batch_size=max_batch_size,
        admission=create_admission(capacity),
        metrics=Metrics(),
        now=now or FakeClock(),
        cpu_time=cpu_time or FakeClock(),
    )


async def ask(batcher: DynamicBatcher, engine: FakeEngine, value: int, side: int = 1) -> BatchRow:
    with batcher.admission.reserve():
        return await submit(batcher, engine, value, side)


async def submit(
    batcher: DynamicBatcher, engine: FakeEngine, value: int, side: int = 1
) -> BatchRow:
    """Ask without a place."""
    with batcher.expect() as answer:
        batcher.submit(answer, Plan(engine, BOTH), 1.0, None, pixels(value, side))
        return await answer


async def occupy(batcher: DynamicBatcher, engine: FakeEngine) -> asyncio.Task[BatchRow]:
    """Hold a stream in the engine, so that what is submitted next has to wait."""
    engine.hold()
    task = asyncio.create_task(ask(batcher, engine, 255))
    await asyncio.to_thread(engine.entered.acquire)
    return task


async def start(
    batcher: DynamicBatcher, *calls: Coroutine[Any, Any, BatchRow]
) -> list[asyncio.Task[BatchRow]]:
    """Let the calls run until they wait for a batch."""
    before = batcher.waiting
    tasks = [asyncio.create_task(call) for call in calls]
    while batcher.waiting < before + len(tasks):
        await anyio.lowlevel.checkpoint()
    return tasks


async def outcomes(tasks: list[asyncio.Task[BatchRow]]) -> list[int | type[BaseException]]:
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        type(result) if isinstance(result, BaseException) else int(result.arrays[LOGITS][0])
        for result in results
    ]


async def ask_together(
    batcher: DynamicBatcher, engine: FakeEngine, values: Iterable[int]
) -> list[int | type[BaseException]]:
    """Let all wait behind a held stream, and let it go; its own outcome comes first."""
    blocker = await occupy(batcher, engine)
    tasks = await start(batcher, *(ask(batcher, engine, value) for value in values))
    engine.gate.set()
    return await outcomes([blocker, *tasks])
