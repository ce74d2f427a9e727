"""Looking up, computing and keeping, without a queue: what computes is the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import AppError, InvalidImageError, OverloadedError
from app.inference.answers import Outputs, Source, Stages
from app.inference.cache import _ENTRY_BYTES, ResultCache
from app.inference.image import Image, ImageFile, ImagePixels
from app.inference.pipeline import Pipeline
from app.inference.plan import Plan
from app.inference.service import Service
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record
from model.checkpoints.checkpoint import Checkpoint
from model.network.config import LOGITS, POOLED
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio


class NamedEngine(FakeEngine):
    """Has a name, and nothing else of a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = cast("Checkpoint", SimpleNamespace(name="model"))


ONE, OTHER = NamedEngine(), NamedEngine()
PLANS = [
    Plan(ONE, frozenset({LOGITS})),
    Plan(OTHER, frozenset({LOGITS})),
    Plan(ONE, frozenset({LOGITS, POOLED})),
    Plan(ONE, frozenset({LOGITS}), 96),
    Plan(ONE, frozenset({LOGITS}), None, 16),
]
NUMBERS = 256
ENTRY = _ENTRY_BYTES + 4 * NUMBERS
A, B = ImageFile(b"a"), ImageFile(b"bb")
BAD = ImageFile(b"bad")


def outputs(value: float) -> Outputs:
    source = Source("jpeg", 640, 480)
    return Outputs({LOGITS: np.full(NUMBERS, value, np.float32)}, Stages(1, 2, 3), 4, source)


def value(answer: object) -> float:
    assert isinstance(answer, Outputs)
    return float(answer.arrays[LOGITS][0])


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class Computer:
    """Stands for the pipeline; can be held.

    Attributes:
        asked: the images of each call.
    """

    batcher = None

    def __init__(self, *, held: bool = False) -> None:
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()
        self.asked: list[list[Image]] = []
        self.cancelled = 0
        self.error: AppError | None = None

    async def run(self, images: Sequence[Image], plan: Plan) -> list[Outputs | AppError]:
        del plan
        self.asked.append(list(images))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        number = len(self.asked)
        return [InvalidImageError() if one == BAD else outputs(number) for one in images]


def create_service(computer: object, entries: int = 0) -> Service:
    pipeline = cast("Pipeline", computer)
    cache = ResultCache(entries * ENTRY)
    return Service({}, pipeline, cache, max_output_bytes=1, metrics=Metrics())


async def compute(
    service: Service, *images: Image, plan: Plan = PLANS[0]
) -> list[Outputs | AppError]:
    return await service.compute(images, plan, 60.0, Record(""))


async def test_what_is_kept_took_no_time_and_what_is_shared_only_waiting() -> None:
    computer = Computer(held=True)
    service = create_service(computer, 8)
    callers = [asyncio.create_task(compute(service, A)) for _ in range(2)]
    await turns()
    computer.gate.set()
    (miss,), (shared,) = await asyncio.gather(*callers)
    (hit,) = await compute(service, A)
    found = [cast("Outputs", one) for one in (miss, shared, hit)]
    assert [one.cache for one in found] == ["miss", "shared", "hit"]
    assert found[0].stages == Stages(1, 2, 3)
    assert (found[1].stages.decode_s, found[1].stages.inference_s) == (0, 0)
    assert found[2].stages == Stages(0, 0, 0)
    assert len(computer.asked) == 1


async def test_no_caller_can_change_what_others_read() -> None:
    service = create_service(Computer(), 8)
    for _ in range(2):
        (answer,) = await compute(service, A)
        with pytest.raises(ValueError, match="read-only"):
            cast("Outputs", answer).arrays[LOGITS][0] = 7


async def test_an_error_is_every_callers_and_is_not_kept() -> None:
    computer = Computer()
    service = create_service(computer, 8)
    computer.error = OverloadedError()
    calls = [compute(service, A) for _ in range(2)]
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in told] == [OverloadedError] * 2
    computer.error = None
    assert list(map(value, await compute(service, A))) == [2]


async def test_pixels_with_the_bytes_of_a_file_are_not_that_file() -> None:
    service = create_service(Computer(), 8)
    file = bytes(range(12))
    pixels = np.frombuffer(file, np.uint8)
    images: list[Image] = [
        ImageFile(file),
        ImagePixels(pixels.reshape(2, 2, 3)),
        ImagePixels(pixels.reshape(1, 4, 3)),
        ImagePixels(pixels.reshape(2, 2, 3)),
    ]
    found = [await compute(service, image) for image in images]
    assert [value(one) for (one,) in found] == [1, 2, 3, 2]


def pixels_of(file: bytes) -> ImagePixels:
    return ImagePixels(np.frombuffer(file, np.uint8).reshape(10, 10, 3))


@pytest.mark.parametrize("create", [ImageFile, pixels_of])
async def test_without_a_cache_images_share_a_computation_only_if_every_byte_is_equal(
    create: Callable[[bytes], Image],
) -> None:
    computer = Computer(held=True)
    service = create_service(computer)
    zeros, other = create(bytes(300)), create(b"\1" + bytes(299))
    assert hash(zeros) == hash(other)  # it samples
    images = [zeros, other, create(bytes(300))]
    callers = [asyncio.create_task(compute(service, one)) for one in images]
    await turns()
    computer.gate.set()
    found = await asyncio.gather(*callers)
    assert [cast("Outputs", one).cache for (one,) in found] == ["miss", "miss", "shared"]
    assert computer.asked == [[zeros], [other]]


async def test_every_option_that_changes_the_answer_has_an_answer_of_its_own() -> None:
    computer = Computer()
    service = create_service(computer, 8)
    for _ in range(2):
        found = [await compute(service, A, plan=plan) for plan in PLANS]
        assert [value(one) for (one,) in found] == [1, 2, 3, 4, 5]
    assert len(computer.asked) == len(PLANS)


async def test_images_of_one_request_are_looked_up_and_computed_once_each() -> None:
    computer = Computer()
    service = create_service(computer, 8)
    await compute(service, A)
    found = await compute(service, BAD, A, B, BAD, B)
    assert computer.asked[1:] == [[BAD, B]]
    assert [isinstance(one, AppError) or value(one) for one in found] == [True, 1, 2, True, 2]
    assert list(map(value, await compute(service, B))) == [2]
    await compute(service, BAD, A)
    assert computer.asked[2:] == [[BAD]]


async def test_equal_requests_of_many_images_share_one_computation() -> None:
    computer = Computer(held=True)
    service = create_service(computer)
    callers = [asyncio.create_task(compute(service, A, B)) for _ in range(2)]
    await turns()
    callers[0].cancel()
    computer.gate.set()
    assert list(map(value, await callers[1])) == [1, 1]
    assert (len(computer.asked), computer.cancelled) == (1, 0)


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(0, len(PLANS) - 1)),
    st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 4), st.just(0)),
)


class Busy:
    """Computes numbers that tell the image and the plan; never the same twice at once."""

    batcher = None

    def __init__(self, durations: Sequence[int]) -> None:
        self._durations = durations
        self._begun = 0
        self.running: list[Any] = []

    async def run(self, images: Sequence[ImageFile], plan: Plan) -> list[Outputs]:
        (image,) = images
        self._begun += 1
        assert (image, plan) not in self.running
        self.running.append((image, plan))
        try:
            await turns(self._durations[self._begun % len(self._durations)])
        finally:
            self.running.remove((image, plan))
        return [outputs(100 * image.data[0] + PLANS.index(plan))]


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=40), st.integers(0, 4), st.lists(st.integers(0, 6), min_size=1))
def test_nobody_ever_gets_another_images_answer(
    steps: list[tuple[str, int, int]], entries: int, durations: list[int]
) -> None:
    """Callers come and leave in any order; who stays has the answer of his own image and plan."""

    async def play() -> None:
        busy = Busy(durations)
        service = create_service(busy, entries)
        callers: list[tuple[float, asyncio.Task[list[Outputs | AppError]]]] = []
        for step, first, second in steps:
            if step == "ask":
                call = compute(service, ImageFile(bytes([first])), plan=PLANS[second])
                callers.append((100 * first + second, asyncio.create_task(call)))
            elif step == "leave" and callers:
                callers[first % len(callers)][1].cancel()
            else:
                await turns(first)
        for expected, task in callers:
            await asyncio.wait((task,))
            assert task.cancelled() or list(map(value, task.result())) == [expected]
        assert busy.running == []
        assert not service._flights._flights
        assert service.cache.size <= entries * ENTRY

    asyncio.run(play())
