"""Keeping outputs in bounded memory."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from app.inference.answers import Outputs, Source, Stages
from app.inference.cache import _ENTRY_BYTES, ResultCache
from app.inference.plan import Plan
from model.network.config import LOGITS
from tests.fakes import FakeEngine

PLAN = Plan(FakeEngine(), frozenset({LOGITS}))
NUMBERS = 256
SOURCE = Source("jpeg", 640, 480)
ENTRY = _ENTRY_BYTES + 4 * NUMBERS


def outputs(value: float, numbers: int = NUMBERS) -> Outputs:
    return Outputs({LOGITS: np.full(numbers, value, np.float32)}, Stages(1, 2, 3), 4, SOURCE)


def test_what_was_not_asked_for_the_longest_leaves_first() -> None:
    cache = ResultCache(3 * ENTRY)
    keys = [(bytes([number]), PLAN) for number in range(4)]
    for number in range(3):
        cache.put(keys[number], outputs(number))
    assert cache.get(keys[0])
    cache.put(keys[3], outputs(3))
    assert [number for number in range(4) if cache.get(keys[number])] == [0, 2, 3]
    assert cache.size == 3 * ENTRY


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = ResultCache(2 * ENTRY)
    small, large = ((name, PLAN) for name in (b"small", b"large"))
    cache.put(small, outputs(1))
    cache.put(large, outputs(2, numbers=ENTRY))
    assert (cache.get(small) is None, cache.get(large)) == (False, None)


def test_an_entry_holds_no_more_memory_than_is_counted() -> None:
    cache = ResultCache(2**30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(500):
            plan = Plan(PLAN.engine, frozenset({LOGITS}))
            batch = np.zeros((8, NUMBERS), np.float32)
            row = Outputs({LOGITS: batch[0]}, Stages(1, 2, 3), 8, SOURCE)
            key = number.to_bytes(32, "big"), plan
            cache.put(key, row)
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
            cache.put((Yielding([digest]), PLAN), outputs(digest))
            wanted = (start * number) % 7
            found = cache.get((Yielding([wanted]), PLAN))
            assert found is None or found.arrays[LOGITS][0] == wanted

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.size == 5 * ENTRY == len(cache._entries) * ENTRY
