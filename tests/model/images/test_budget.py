from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from model.errors import AbandonedError
from model.images.budget import MemoryBudget

MEBI = 2**20
BESIDES = 5 * MEBI
"""What resizing takes, and libraries' own buffers: little, however large an image is."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("side", "word"),
    [
        pytest.param("1400", "exif", id="turned-ones-of-2-megapixels"),
        pytest.param("5000", "", id="25", marks=[pytest.mark.reliability, pytest.mark.slow]),
    ],
)
def test_no_image_takes_more_memory_than_is_counted(side: str, word: str) -> None:
    command = [sys.executable, "-m", "tests.model.images.decode_peaks", side, word]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    measured = json.loads(done.stdout)
    assert len(measured) > 20
    for name, (peak, counted) in sorted(measured.items()):
        print(f"{name:40} {peak / MEBI:6.1f} of {counted / MEBI:6.1f} MiB")  # noqa: T201  # with -s
    more = {name: both for name, both in measured.items() if both[0] > both[1] + BESIDES}
    assert not more


def test_what_needs_more_than_there_is_gets_all_and_gives_it_back() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(1000):
        assert budget.free == 0
    assert budget.free == 100


def test_what_is_held_is_never_more_than_the_budget() -> None:
    budget = MemoryBudget(100)
    seen: list[int] = []

    def hold() -> None:
        for count in (30, 60, 90):
            with budget.reserve(count):
                seen.append(budget.free)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12
    assert min(seen) >= 0
    assert budget.free == 100


class Waiting(threading.Thread):
    """Reserves in a thread of its own, and says that it does once it waits."""

    def __init__(self, budget: MemoryBudget, count: int, served: list[int]) -> None:
        super().__init__()
        self._budget, self._count, self._served = budget, count, served
        self._asked = threading.Event()
        self.wanted = True
        self.start()
        self._asked.wait()

    def _is_wanted(self) -> bool:
        self._asked.set()
        return self.wanted

    def run(self) -> None:
        with suppress(AbandonedError), self._budget.reserve(self._count, self._is_wanted):
            self._served.append(self._count)


def test_who_needs_much_is_not_passed_by_those_who_need_little() -> None:
    budget, served = MemoryBudget(100), list[int]()
    with budget.reserve(50):
        waiting = [Waiting(budget, count, served) for count in (90, 10, 20)]
        assert served == []
    for one in waiting:
        one.join()
    assert served[0] == 90


def test_who_is_no_longer_wanted_leaves_the_queue_to_the_others() -> None:
    budget, served = MemoryBudget(100), list[int]()
    with budget.reserve(50):
        much, little = (Waiting(budget, count, served) for count in (90, 10))
        much.wanted = False
        budget.wake()
        much.join()
        little.join()
    assert served == [10]
    assert budget.free == 100
