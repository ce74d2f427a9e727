"""Computations that several callers share."""

from __future__ import annotations

import asyncio

import anyio.lowlevel
import pytest

from app.errors import DeadlineExceededError, InvalidImageError
from app.inference.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

LONG_S = 60.0


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class Work:
    """A computation that can be held; counts how often it began and was cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = self.cancelled = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await turns()
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.begun


def ask(
    shared: SingleFlight[int], work: Work, timeout_s: float = LONG_S
) -> asyncio.Task[tuple[int, bool]]:
    return asyncio.create_task(shared.run("key", work, timeout_s))


async def test_whoever_asks_while_it_is_computed_shares_the_computation() -> None:
    shared, work = SingleFlight[int](), Work()
    callers = [ask(shared, work) for _ in range(3)]
    await turns()
    work.gate.set()
    answers = await asyncio.gather(*callers)
    assert (work.begun, [was_shared for _, was_shared in answers]) == (1, [False, True, True])
    await ask(shared, work)
    assert work.begun == 2


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_caller_that_leaves_takes_nothing_from_the_others(leaver: int) -> None:
    shared, work = SingleFlight[int](), Work()
    callers = [ask(shared, work) for _ in range(2)]
    await turns()
    callers[leaver].cancel()
    await turns()
    work.gate.set()
    answer, _ = await callers[1 - leaver]
    assert (answer, work.cancelled) == (1, 0)


async def test_with_the_last_caller_the_computation_has_ended_and_the_next_begins_anew() -> None:
    shared, work = SingleFlight[int](), Work()
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
    assert (await ask(shared, work))[0] == 2


async def test_whoever_comes_while_it_is_being_cancelled_gets_an_answer() -> None:
    shared, work = SingleFlight[int](), Work()
    first = ask(shared, work)
    await turns()
    first.cancel()
    late = ask(shared, work)
    await turns()
    work.gate.set()
    assert (await late)[0] == 2


async def test_each_caller_has_a_deadline_of_its_own() -> None:
    shared, work = SingleFlight[int](), Work()
    patient = ask(shared, work)
    with pytest.raises(DeadlineExceededError):
        await ask(shared, work, timeout_s=0.001)
    work.gate.set()
    assert (await patient)[0] == 1
    work.gate.clear()
    with pytest.raises(DeadlineExceededError):
        await ask(shared, work, timeout_s=0.001)
    assert work.cancelled == 1


async def test_an_error_is_every_callers_and_the_next_begins_anew() -> None:
    shared, work = SingleFlight[int](), Work()
    work.error = InvalidImageError()
    work.gate.set()
    told = await asyncio.gather(*(ask(shared, work) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in told] == [InvalidImageError] * 2
    work.error = None
    assert await ask(shared, work) == (2, False)
