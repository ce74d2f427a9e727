"""Batches, and who is in them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from unittest.mock import patch

import anyio.lowlevel
import pytest

from app.errors import AppError, OverloadedError, ShuttingDownError
from app.inference.batcher import Entry
from app.inference.plan import Plan
from model.network.config import LOGITS, POOLED
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
from tests.fakes import FakeClock, FakeEngine, pixels

pytestmark = pytest.mark.anyio


async def test_a_caller_gets_the_row_of_its_own_image() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        row = await ask(batcher, engine, 7)
        assert batcher.healthy
    assert row.arrays[LOGITS].tolist() == [7, 7, 7]
    assert row.arrays[POOLED].tolist() == [7, 7, 7, 7]
    assert row.batch_size == 1


async def test_what_waits_is_run_as_one_batch() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in (1, 2, 3)))
        engine.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, 1, 2, 3]
        assert [task.result().batch_size for task in tasks] == [3, 3, 3]
    assert engine.batches == [[255], [1, 2, 3]]


async def test_a_batch_is_never_larger_than_allowed() -> None:
    engine = FakeEngine()
    async with create_batcher(max_batch_size=4) as batcher:
        await ask_together(batcher, engine, range(10))
    assert [len(batch) for batch in engine.batches] == [1, 4, 4, 2]


async def test_images_that_need_much_memory_share_fewer_batches() -> None:
    engine = FakeEngine()
    async with create_batcher(max_batch_size=8) as batcher:
        first = await occupy(batcher, engine)
        calls = (ask(batcher, engine, value, side) for side in (448, 512) for value in (1, 2, 3))
        tasks = await start(batcher, *calls)
        engine.gate.set()
        await asyncio.gather(first, *tasks)
    assert engine.batches == [[255], [1, 2], [3], [1], [2], [3]]


@pytest.mark.parametrize(
    ("side", "output_stride", "fit"),
    [(1, 32, 8), (224, 32, 8), (224, 16, 2), (112, 16, 8), (224, 8, 1)],
)
async def test_a_batch_shrinks_as_the_maps_of_its_images_grow(
    side: int, output_stride: int, fit: int
) -> None:
    plan = Plan(FakeEngine(), BOTH, output_stride=output_stride)
    answer = asyncio.get_running_loop().create_future()
    assert Entry(plan, pixels(1, side), answer, 1.0, 0.0, None).limit(8) == fit


async def test_a_free_stream_leaves_the_other_its_share() -> None:
    engine = FakeEngine()
    async with create_batcher(streams=2) as batcher:
        first, second = await occupy(batcher, engine), await occupy(batcher, engine)
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in range(6)))
        engine.gate.set()
        await outcomes([first, second, *tasks])
    assert len(engine.batches[2]) == 3


async def test_only_a_batch_without_company_may_use_all_threads() -> None:
    engine = FakeEngine()
    async with create_batcher(streams=2) as batcher:
        first = await occupy(batcher, engine)
        second = await occupy(batcher, engine)
        engine.gate.set()
        await outcomes([first, second])
        await ask(batcher, engine, 1)
    assert engine.alone == [True, False, True]


async def test_images_of_other_shapes_never_share_a_batch() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        calls = [ask(batcher, engine, value, side=1 + value % 2) for value in range(6)]
        tasks = await start(batcher, *calls)
        engine.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, 0, 1, 2, 3, 4, 5]
    assert engine.batches == [[255], [0, 2, 4], [1, 3, 5]]


async def test_images_for_other_engines_never_share_a_batch() -> None:
    one, other = FakeEngine(), FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, one)
        tasks = await start(
            batcher, ask(batcher, one, 1), ask(batcher, other, 2), ask(batcher, one, 3)
        )
        one.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, 1, 2, 3]
    assert (one.batches, other.batches) == ([[255], [1, 3]], [[2]])


async def test_a_caller_that_leaves_while_queued_is_not_computed() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in (1, 2, 3)))
        tasks[1].cancel()
        while batcher.waiting > 2:
            await anyio.lowlevel.checkpoint()
        engine.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, 1, asyncio.CancelledError, 3]
    assert engine.batches == [[255], [1, 3]]


async def test_a_caller_that_leaves_while_computed_does_not_disturb_its_batch() -> None:
    engine, halfway = FakeEngine(), threading.Event()

    def pause(values: list[int]) -> None:
        if 1 in values:
            halfway.wait()

    engine.fail = pause
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in (1, 2, 3)))
        engine.gate.set()
        await blocker
        await asyncio.to_thread(engine.entered.acquire)
        tasks[0].cancel()
        await anyio.lowlevel.checkpoint()
        halfway.set()
        assert await outcomes(tasks) == [asyncio.CancelledError, 2, 3]
        assert await outcomes([asyncio.create_task(ask(batcher, engine, 4))]) == [4]


async def test_pixels_that_come_after_their_caller_has_left_are_not_computed() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        with batcher.expect() as left:
            pass
        batcher.submit(left, Plan(engine, BOTH), 1.0, None, pixels(1))
        patient = await start(batcher, ask(batcher, engine, 2))
        engine.gate.set()
        assert await outcomes([blocker, *patient]) == [255, 2]
    assert engine.computed == [255, 2]


async def test_a_queue_of_nothing_but_entries_whose_callers_left_does_not_stop_a_stream() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        with batcher.expect() as left:
            pass
        batcher.submit(left, Plan(engine, BOTH), 1.0, None, pixels(1))
        engine.gate.set()
        assert await outcomes([blocker]) == [255]
        assert (await ask(batcher, engine, 9)).arrays[LOGITS][0] == 9
    assert engine.computed == [255, 9]


async def test_a_batch_that_leaves_others_waiting_may_not_use_all_threads() -> None:
    engine = FakeEngine()
    async with create_batcher(streams=2, max_batch_size=2) as batcher:
        blockers = [await occupy(batcher, engine), await occupy(batcher, engine)]
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in range(8)))
        engine.gate.set()
        await outcomes([*blockers, *tasks])
    assert engine.alone[:4] == [True, False, False, False]


async def test_the_only_stream_always_uses_all_threads() -> None:
    engine = FakeEngine()
    async with create_batcher(streams=1, max_batch_size=2) as batcher:
        await ask_together(batcher, engine, range(4))
    assert engine.alone == [True, True, True]


async def test_leaving_waits_for_a_batch_that_nobody_waits_for() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        caller = await occupy(batcher, engine)
        caller.cancel()
        opener = threading.Timer(0, engine.gate.set)
        opener.start()
    assert not any(thread.is_alive() for thread in batcher._threads)
    opener.join()


def test_a_stream_that_hangs_keeps_nothing_from_ending_and_ends_quietly_after_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.inference.batcher._JOIN_S", 0)
    engine, uncaught = FakeEngine(), list[threading.ExceptHookArgs]()
    monkeypatch.setattr(threading, "excepthook", uncaught.append)

    async def leave() -> list[threading.Thread]:
        async with create_batcher() as batcher:
            (await occupy(batcher, engine)).cancel()
        return batcher._threads

    threads = asyncio.run(leave())
    left_behind = [thread.is_alive() and thread.daemon for thread in threads]
    engine.gate.set()
    for thread in threads:
        thread.join()
    assert left_behind == [True]
    assert not uncaught
    assert not caplog.records


@pytest.mark.parametrize("overflow", range(1, 21))
async def test_exactly_the_overflow_is_refused(overflow: int) -> None:
    engine, room = FakeEngine(), 8
    async with create_batcher(capacity=room) as batcher:
        engine.hold()
        calls = [ask(batcher, engine, value) for value in range(room + overflow)]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.to_thread(engine.entered.acquire)
        engine.gate.set()
        results = await outcomes(tasks)
        assert results == [*range(room), *[OverloadedError] * overflow]
        assert (await ask(batcher, engine, 77)).arrays[LOGITS][0] == 77


async def test_answers_are_never_swapped() -> None:
    engine, total, at_once = FakeEngine(), 4_000, 64
    async with create_batcher(streams=2) as batcher:
        values = iter(range(total))

        async def caller() -> int:
            answered = 0
            for value in values:
                row = await ask(batcher, engine, value)
                assert row.arrays[LOGITS][0] == row.arrays[POOLED][0] == value % 256
                answered += 1
            return answered

        counts = await asyncio.gather(*(caller() for _ in range(at_once)))
    assert sum(counts) == len(engine.computed) == total
    assert max(map(len, engine.batches)) > 1


async def test_drain_answers_all_that_was_accepted_and_lets_nobody_in() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, *(ask(batcher, engine, value) for value in range(20)))
        drained = asyncio.create_task(batcher.drain())
        await anyio.lowlevel.checkpoint()
        with pytest.raises(ShuttingDownError):
            await ask(batcher, engine, 1)
        assert not drained.done()
        engine.gate.set()
        assert await outcomes([blocker, *tasks]) == [255, *range(20)]
        await drained


async def test_who_holds_a_place_may_still_submit_while_draining() -> None:
    engine = FakeEngine()
    async with create_batcher() as batcher:
        with batcher.admission.reserve():
            drained = asyncio.create_task(batcher.drain())
            await anyio.lowlevel.checkpoint()
            assert (await submit(batcher, engine, 5)).arrays[LOGITS][0] == 5
        await drained


async def test_times_are_the_clocks() -> None:
    engine, clock = FakeEngine(), FakeClock()
    async with create_batcher(now=clock) as batcher:
        blocker = await occupy(batcher, engine)
        tasks = await start(batcher, ask(batcher, engine, 1))
        clock.time += 3
        engine.gate.set()
        await outcomes([blocker, *tasks])
        began = clock.time - 3
        assert (blocker.result().started, blocker.result().inference_s) == (began, 3)
        assert (tasks[0].result().started, tasks[0].result().inference_s) == (began + 3, 0)


async def test_a_batch_teaches_what_its_core_took_and_one_alone_what_all_of_them_did() -> None:
    now, cpu_time, engine = FakeClock(), itertools.count(0.0, 0.02), FakeEngine()

    def work(values: list[int]) -> None:
        now.time += 0.5 * (values == [255])

    engine.fail = work
    async with create_batcher(streams=2, now=now, cpu_time=lambda: next(cpu_time)) as batcher:
        with patch.object(batcher.admission.image_s, "learn") as learn:
            alone = await occupy(batcher, engine)
            beside = asyncio.create_task(ask(batcher, engine, 1))
            await asyncio.to_thread(engine.entered.acquire)
            engine.gate.set()
            await asyncio.gather(alone, beside)
    taught = sorted(call.args for call in learn.call_args_list)
    assert taught == [(pytest.approx(0.02), 1), (2 * 0.5, 1)]


async def test_a_batch_that_failed_teaches_nothing() -> None:
    now, engine = FakeClock(), FakeEngine()

    def fail(_: list[int]) -> None:
        now.time += 100
        raise ValueError

    engine.fail = fail
    async with create_batcher(now=now) as batcher:
        with pytest.raises(AppError):
            await ask(batcher, engine, 1)
        assert batcher.admission.images_per_s == 100


async def test_the_oldest_image_tells_how_long_the_queue_is() -> None:
    engine, clock = FakeEngine(), FakeClock()
    async with create_batcher(now=clock) as batcher:
        assert batcher.oldest_wait_s == 0
        blocker = await occupy(batcher, engine)
        tasks = []
        for value in (1, 2):
            tasks += await start(batcher, ask(batcher, engine, value))
            clock.time += 3
        assert (batcher.oldest_wait_s, batcher.waiting) == (6, 2)
        engine.gate.set()
        await outcomes([blocker, *tasks])
        assert (batcher.oldest_wait_s, batcher.waiting) == (0, 0)
