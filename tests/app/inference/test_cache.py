"""Sharing and keeping answers, without a queue: what computes is the test."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import AppError, DeadlineExceededError, InvalidImageError
from app.inference.answers import Outputs, Ranking, Source, Stages
from app.inference.cache import _ENTRY_BYTES, ResultCache, SharedAnswers, SharedComputations
from app.inference.plan import Image, Plan
from app.telemetry.metrics import Metrics
from model.network.config import LOGITS, POOLED
from model.network.scores import Activation
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

ONE, OTHER = FakeEngine(), FakeEngine()
PLANS = [
    Plan(ONE, frozenset({LOGITS}), None),
    Plan(OTHER, frozenset({LOGITS}), None),
    Plan(ONE, frozenset({LOGITS, POOLED}), None),
    Plan(ONE, frozenset({LOGITS}), 96),
    Plan(ONE, frozenset({LOGITS}), None, 16),
]
NUMBERS = 256
PHOTO = Source("jpeg", 640, 480)
ENTRY = _ENTRY_BYTES + 4 * NUMBERS
LONG_S = 60.0


def outputs(value: float, numbers: int = NUMBERS) -> Outputs:
    return Outputs({LOGITS: np.full(numbers, value, np.float32)}, Stages(1, 2, 3), 4, PHOTO)


def value(answer: object) -> float:
    assert isinstance(answer, Outputs)
    return float(answer.arrays[LOGITS][0])


def create_answers(entries: int = 0) -> SharedAnswers:
    return SharedAnswers(entries * ENTRY, Metrics())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class Work:
    """A computation that can be held; counts how often it began and was cancelled."""

    def __init__(self, *, held: bool = True) -> None:
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()
        self.begun = self.cancelled = 0
        self.error: AppError | None = None

    async def __call__(self) -> Outputs:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await turns()
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return outputs(self.begun)

    async def many(self, images: Sequence[Image]) -> list[Outputs | AppError]:
        await self()
        return [InvalidImageError() if image == b"bad" else outputs(len(image)) for image in images]


def ask(
    shared: SharedComputations[Outputs], work: Work, timeout_s: float = LONG_S
) -> asyncio.Task[tuple[Outputs, bool]]:
    return asyncio.create_task(shared.run("key", work, timeout_s))


async def test_whoever_asks_while_it_is_computed_shares_the_computation() -> None:
    shared, work = SharedComputations[Outputs](), Work()
    callers = [ask(shared, work) for _ in range(3)]
    await turns()
    work.gate.set()
    answers = await asyncio.gather(*callers)
    assert (work.begun, [was_shared for _, was_shared in answers]) == (1, [False, True, True])
    await ask(shared, work)
    assert work.begun == 2


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_caller_that_leaves_takes_nothing_from_the_others(leaver: int) -> None:
    shared, work = SharedComputations[Outputs](), Work()
    callers = [ask(shared, work) for _ in range(2)]
    await turns()
    callers[leaver].cancel()
    await turns()
    work.gate.set()
    answer, _ = await callers[1 - leaver]
    assert (value(answer), work.cancelled) == (1, 0)


async def test_with_the_last_caller_the_computation_has_ended_and_the_next_begins_anew() -> None:
    shared, work = SharedComputations[Outputs](), Work()
    seen: list[int] = []

    async def call() -> None:
        try:
            await shared.run("key", work, LONG_S)
        finally:
            seen.append(work.cancelled)

    callers = [asyncio.create_task(call()) for _ in range(2)]
    await turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert seen == [0, 1]
    work.gate.set()
    assert value((await ask(shared, work))[0]) == 2


async def test_whoever_comes_while_it_is_being_cancelled_gets_an_answer() -> None:
    shared, work = SharedComputations[Outputs](), Work()
    first = ask(shared, work)
    await turns()
    first.cancel()
    late = ask(shared, work)
    await turns()
    work.gate.set()
    assert value((await late)[0]) == 2


async def test_each_caller_has_a_deadline_of_its_own() -> None:
    shared, work = SharedComputations[Outputs](), Work()
    patient = ask(shared, work)
    with pytest.raises(DeadlineExceededError):
        await ask(shared, work, timeout_s=0.001)
    work.gate.set()
    assert value((await patient)[0]) == 1
    work.gate.clear()
    with pytest.raises(DeadlineExceededError):
        await ask(shared, work, timeout_s=0.001)
    assert work.cancelled == 1


async def test_an_error_is_every_callers_and_is_not_kept() -> None:
    answers, work = create_answers(8), Work(held=False)
    work.error = InvalidImageError()
    callers = [answers.one(b"a", PLANS[0], work, LONG_S) for _ in range(2)]
    told = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in told] == [InvalidImageError] * 2
    work.error = None
    assert value(await answers.one(b"a", PLANS[0], work, LONG_S)) == 2


async def test_what_is_kept_took_no_time_and_what_is_shared_only_waiting() -> None:
    answers, work = create_answers(8), Work()
    callers = [asyncio.create_task(answers.one(b"a", PLANS[0], work, LONG_S)) for _ in range(2)]
    await turns()
    work.gate.set()
    miss, shared = await asyncio.gather(*callers)
    hit = await answers.one(b"a", PLANS[0], work, LONG_S)
    assert [one.cache for one in (miss, shared, hit)] == ["miss", "shared", "hit"]
    assert miss.stages == Stages(1, 2, 3)
    assert (shared.stages.decode_s, shared.stages.inference_s) == (0, 0)
    assert hit.stages == Stages(0, 0, 0)
    assert work.begun == 1


async def test_no_caller_can_change_what_others_read() -> None:
    answers, work = create_answers(8), Work(held=False)
    for _ in range(2):
        answer = await answers.one(b"a", PLANS[0], work, LONG_S)
        with pytest.raises(ValueError, match="read-only"):
            answer.arrays[LOGITS][0] = 7


async def test_pixels_with_the_bytes_of_a_file_are_not_that_file() -> None:
    answers, work = create_answers(8), Work(held=False)
    file = bytes(range(12))
    pixels = np.frombuffer(file, np.uint8)
    images: list[Image] = [
        file,
        pixels.reshape(2, 2, 3),
        pixels.reshape(1, 4, 3),
        pixels.reshape(2, 2, 3),
    ]
    found = [await answers.one(image, PLANS[0], work, LONG_S) for image in images]
    assert [value(one) for one in found] == [1, 2, 3, 2]


async def test_every_option_that_changes_the_answer_has_an_answer_of_its_own() -> None:
    answers, work = create_answers(8), Work(held=False)
    for _ in range(2):
        found = [await answers.one(b"a", plan, work, LONG_S) for plan in PLANS]
        assert [value(one) for one in found] == [1, 2, 3, 4, 5]
    assert work.begun == len(PLANS)


async def test_images_of_one_request_are_looked_up_and_computed_once_each() -> None:
    answers, work = create_answers(8), Work(held=False)
    await answers.one(b"kept", PLANS[0], work, LONG_S)
    seen: list[Sequence[Image]] = []

    async def compute(images: Sequence[Image]) -> list[Outputs | AppError]:
        seen.append(images)
        return await work.many(images)

    images = [b"bad", b"kept", b"four", b"bad", b"four"]
    found = await answers.many(images, PLANS[0], compute, LONG_S)
    assert seen == [[b"bad", b"four"]]
    assert [isinstance(one, AppError) or value(one) for one in found] == [True, 1, 4, True, 4]
    assert value(await answers.one(b"four", PLANS[0], work, LONG_S)) == 4
    await answers.many([b"bad", b"kept"], PLANS[0], compute, LONG_S)
    assert seen[1:] == [[b"bad"]]


async def test_equal_requests_of_many_images_share_one_computation() -> None:
    answers, work = create_answers(), Work()
    callers = [
        asyncio.create_task(answers.many([b"a", b"bb"], PLANS[0], work.many, LONG_S))
        for _ in range(2)
    ]
    await turns()
    callers[0].cancel()
    work.gate.set()
    assert list(map(value, await callers[1])) == [1, 2]
    assert (work.begun, work.cancelled) == (1, 0)


def test_what_was_not_asked_for_the_longest_leaves_first() -> None:
    cache = ResultCache(3 * ENTRY)
    keys = [(bytes([number]), None, PLANS[0]) for number in range(4)]
    for number in range(3):
        cache.put(keys[number], outputs(number))
    assert cache.get(keys[0])
    cache.put(keys[3], outputs(3))
    assert [number for number in range(4) if cache.get(keys[number])] == [0, 2, 3]
    assert cache.size == 3 * ENTRY


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = ResultCache(2 * ENTRY)
    small, large = ((name, None, PLANS[0]) for name in (b"small", b"large"))
    cache.put(small, outputs(1))
    cache.put(large, outputs(2, numbers=ENTRY))
    assert (cache.get(small) is None, cache.get(large)) == (False, None)


def rank(classes: int) -> list[tuple[int, float]]:
    """A ranking whose numbers are its own."""
    return [(1000 + number, float(number)) for number in range(classes)]


def test_the_same_question_is_ranked_once_and_long_answers_are_not_kept() -> None:
    ranking = Ranking()
    asked: list[tuple[int, float | None, Activation]] = []

    def ask(top_k: int, least: float | None, activation: Activation) -> None:
        def found() -> list[tuple[int, float]]:
            asked.append((top_k, least, activation))
            return rank(top_k)

        assert ranking.find((top_k, least, activation), found) == rank(top_k)

    for _ in range(2):
        ask(10, None, "softmax")
    assert len(asked) == 1
    ask(5, None, "softmax")
    ask(5, 0.1, "softmax")
    ask(5, 0.1, "none")
    assert asked[1:] == [(5, None, "softmax"), (5, 0.1, "softmax"), (5, 0.1, "none")]
    for _ in range(2):
        ask(11, None, "softmax")
    assert asked[-2:] == [(11, None, "softmax")] * 2


def test_an_entry_holds_no_more_memory_than_is_counted() -> None:
    cache = ResultCache(2**30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            plan = Plan(ONE, frozenset({LOGITS}), None)
            batch = np.zeros((8, NUMBERS), np.float32)
            row = Outputs({LOGITS: batch[0]}, Stages(1, 2, 3), 8, PHOTO)
            key = number.to_bytes(32, "big"), None, plan
            cache.put(key, row)
            kept = cache.get(key)
            assert kept
            kept.ranking.find((10, 0.1, "softmax"), lambda: rank(10))
            kept.ranking.find((1000, 0.1, "softmax"), lambda: rank(1000))
        del batch, row
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * cache.size < held <= cache.size


class Yielding(bytes):
    """A digest that lets another thread run whenever it is looked up."""

    def __hash__(self) -> int:
        time.sleep(0)  # gives the interpreter away, and waits for nothing
        return super().__hash__()


def test_threads_that_put_and_get_leave_it_within_its_bound() -> None:
    cache = ResultCache(5 * ENTRY)

    def work(start: int) -> None:
        for number in range(400):
            digest = (start + number) % 7
            cache.put((Yielding([digest]), None, PLANS[0]), outputs(digest))
            wanted = (start * number) % 7
            found = cache.get((Yielding([wanted]), None, PLANS[0]))
            assert found is None or value(found) == wanted

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.size == 5 * ENTRY == len(cache._entries) * ENTRY


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(0, len(PLANS) - 1)),
    st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 4), st.just(0)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=40), st.integers(0, 4), st.lists(st.integers(0, 6), min_size=1))
def test_nobody_ever_gets_another_images_answer(
    steps: list[tuple[str, int, int]], entries: int, durations: list[int]
) -> None:
    """Callers come and leave in any order; who stays has the answer of his own image and plan."""

    async def play() -> None:
        answers = create_answers(entries)
        callers: list[tuple[float, asyncio.Task[Outputs]]] = []
        running: list[tuple[int, int]] = []
        begun = 0

        def create_compute(image: int, plan: int) -> Callable[[], Awaitable[Outputs]]:
            async def compute() -> Outputs:
                nonlocal begun
                begun += 1
                assert (image, plan) not in running
                running.append((image, plan))
                try:
                    await turns(durations[begun % len(durations)])
                finally:
                    running.remove((image, plan))
                return outputs(100 * image + plan)

            return compute

        for step, first, second in steps:
            if step == "ask":
                compute = cast("Work", create_compute(first, second))
                one = answers.one(bytes([first]), PLANS[second], compute, LONG_S)
                callers.append((100 * first + second, asyncio.create_task(one)))
            elif step == "leave" and callers:
                callers[first % len(callers)][1].cancel()
            else:
                await turns(first)
        for expected, task in callers:
            await asyncio.wait((task,))
            assert task.cancelled() or value(task.result()) == expected
        assert running == []
        assert not answers._images._running
        assert answers._cache.size <= entries * ENTRY

    asyncio.run(play())
