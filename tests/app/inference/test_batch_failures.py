"""What fails in a batch or comes too late for one, and who is told."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from app.errors import AppError, ModelOutputInvalidError, NotReadyError, OutOfMemoryError
from app.inference.plan import Plan
from model.engines.base import EngineOutput
from model.network.config import LOGITS
from tests.app.inference.batcher import (
    BOTH,
    ask,
    ask_together,
    create_batcher,
    occupy,
    outcomes,
    start,
    submit,
)
from tests.fakes import FakeEngine, pixels

pytestmark = pytest.mark.anyio


def die(_: list[int]) -> None:
    """End the stream that runs it."""
    raise SystemExit


async def test_a_failing_batch_fails_only_the_guilty_entries() -> None:
    engine = FakeEngine()

    def fail(values: list[int]) -> None:
        if guilty.intersection(values):
            raise RuntimeError("poison")

    async with create_batcher() as batcher:
        for pattern in range(1, 256):
            guilty: set[int] = set()
            engine.fail = fail
            blocker = await occupy(batcher, engine)
            tasks = await start(batcher, *(ask(batcher, engine, value) for value in range(8)))
            guilty = {value for value in range(8) if pattern >> value & 1}
            engine.gate.set()
            await blocker
            expected = [AppError if value in guilty else value for value in range(8)]
            assert await outcomes(tasks) == expected, f"pattern {pattern:08b}"
            while engine.entered.acquire(blocking=False):
                pass


async def test_an_engine_that_fails_on_every_batch_still_answers_single_images() -> None:
    engine = FakeEngine()

    def fail(values: list[int]) -> None:
        if len(values) > 1:
            raise RuntimeError("no batches today")

    engine.fail = fail
    async with create_batcher() as batcher:
        assert await ask_together(batcher, engine, range(5)) == [255, 0, 1, 2, 3, 4]


async def test_what_does_not_fit_into_memory_is_split_and_only_the_guilty_fails() -> None:
    engine = FakeEngine()

    def fail(values: list[int]) -> None:
        if 2 in values or len(values) > 2:
            raise MemoryError

    engine.fail = fail
    async with create_batcher() as batcher:
        assert await ask_together(batcher, engine, range(4)) == [255, 0, 1, OutOfMemoryError, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_a_row_that_is_not_finite_is_an_error_and_never_an_answer(value: float) -> None:
    engine = FakeEngine()

    def spoil(output: EngineOutput) -> EngineOutput:
        output.logits[output.logits[:, 0] == 1, 2] = value
        output.pooled[output.logits[:, 0] == 3, 0] = value
        return output

    engine.shape = spoil
    async with create_batcher() as batcher:
        invalid = ModelOutputInvalidError
        assert await ask_together(batcher, engine, range(5)) == [255, 0, invalid, 2, invalid, 4]


@pytest.mark.parametrize("extra", [-1, 1], ids=["a row too few", "a row too many"])
async def test_a_wrong_number_of_rows_is_an_error_and_never_an_answer(extra: int) -> None:
    engine = FakeEngine()

    def miscount(output: EngineOutput) -> EngineOutput:
        rows = np.resize(output.logits, (len(output.logits) + extra, 3))
        return EngineOutput({**output.arrays, LOGITS: rows})

    engine.shape = miscount
    async with create_batcher() as batcher:
        assert await ask_together(batcher, engine, range(4)) == [ModelOutputInvalidError] * 5


async def test_the_last_stream_that_dies_fails_everybody_and_lets_nobody_in() -> None:
    engine = FakeEngine()
    engine.fail = die
    async with create_batcher() as batcher:
        assert await ask_together(batcher, engine, range(3)) == [NotReadyError] * 4
        assert batcher.waiting == 0
        assert not batcher.healthy
        with pytest.raises(NotReadyError):
            await ask(batcher, engine, 1)
        with pytest.raises(NotReadyError):
            await submit(batcher, engine, 1)


async def test_the_log_says_why_a_stream_died(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    engine.fail = die
    async with create_batcher() as batcher:
        with pytest.raises(NotReadyError):
            await ask(batcher, engine, 1)
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert record.exc_info
    assert record.exc_info[0] is SystemExit


async def test_when_no_stream_lives_admission_says_so_at_the_door() -> None:
    engine = FakeEngine()
    engine.fail = die
    async with create_batcher() as batcher:
        with pytest.raises(NotReadyError):
            await ask(batcher, engine, 1)
        with pytest.raises(NotReadyError):
            batcher.admission.check()


async def test_an_engine_that_gives_nothing_fails_its_callers_and_not_its_stream() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        engine.shape = lambda _: None  # type: ignore[assignment, return-value]  # what it must not be
        assert await outcomes([asyncio.create_task(ask(batcher, engine, 1))]) == [AppError]
        engine.shape = lambda output: output
        assert await outcomes([asyncio.create_task(ask(batcher, engine, 2))]) == [2]
        assert batcher.healthy


async def test_a_stream_that_dies_leaves_the_others_at_work() -> None:
    engine = FakeEngine()

    def die_of_13(values: list[int]) -> None:
        if values == [13]:
            raise SystemExit

    engine.fail = die_of_13
    async with create_batcher(streams=2) as batcher:
        with pytest.raises(NotReadyError):
            await ask(batcher, engine, 13)
        assert not batcher.healthy
        assert (await ask(batcher, engine, 1)).arrays[LOGITS][0] == 1
    assert engine.alone == [True, True]


async def test_everybody_is_failed_once_the_last_of_two_streams_has_died() -> None:
    engine = FakeEngine()
    engine.fail = die
    async with create_batcher(streams=2) as batcher:
        for _ in range(2):
            with pytest.raises(NotReadyError):
                await ask(batcher, engine, 1)
        with pytest.raises(NotReadyError):
            batcher.admission.check()


async def test_the_log_says_why_the_engine_failed(caplog: pytest.LogCaptureFixture) -> None:
    engine, failure = FakeEngine(), RuntimeError("poison")

    def fail(_: list[int]) -> None:
        raise failure

    engine.fail = fail
    async with create_batcher() as batcher:
        assert await ask_together(batcher, engine, [1]) == [AppError] * 2
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [failure] * 2


async def test_pixels_that_come_after_their_caller_left_are_never_computed() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        with batcher.expect() as left:
            pass
        batcher.submit(left, Plan(engine, BOTH), 1.0, None, pixels(1))
        assert (await ask(batcher, engine, 2)).batch_size == 1
    assert engine.batches == [[2]]


async def test_pixels_that_come_after_the_last_stream_died_fail_at_once() -> None:
    engine = FakeEngine()
    engine.fail = die
    async with create_batcher() as batcher:
        with batcher.expect() as late:
            with pytest.raises(NotReadyError):
                await ask(batcher, engine, 1)
            await asyncio.to_thread(batcher.submit, late, Plan(engine, BOTH), 1.0, None, pixels(2))
            with pytest.raises(NotReadyError):
                await late


async def test_a_lack_of_memory_does_not_open_the_circuit_and_other_failures_do() -> None:
    engine = FakeEngine()
    failure: Exception = MemoryError()

    def fail(_: list[int]) -> None:
        raise failure

    engine.fail = fail
    async with create_batcher() as batcher:
        for _ in range(9):
            with pytest.raises(OutOfMemoryError):
                await ask(batcher, engine, 1)
        assert not batcher.breaker.open_ids()
        failure = RuntimeError("broken")
        for _ in range(5):
            with pytest.raises(AppError):
                await ask(batcher, engine, 1)
        assert batcher.breaker.open_ids()
        engine.fail = lambda _: None
        await ask(batcher, engine, 1)
        assert not batcher.breaker.open_ids()


@pytest.mark.parametrize("failure", [AppError(), None], ids=["a failure", "not finite"])
async def test_batches_without_a_single_answer_open_the_circuit(failure: AppError | None) -> None:
    engine = FakeEngine()

    def spoil(output: EngineOutput) -> EngineOutput:
        if failure:
            raise failure
        return EngineOutput({name: array * np.nan for name, array in output.arrays.items()})

    engine.shape = spoil
    async with create_batcher() as batcher:
        for _ in range(5):
            with pytest.raises(AppError):
                await ask(batcher, engine, 1)
        assert batcher.breaker.open_ids()
