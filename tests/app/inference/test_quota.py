from __future__ import annotations

from collections.abc import Callable

import pytest

from app.inference.quota import CpuThrottle


class Machine:
    """A clock and a processor account that only move when told to; sleeping moves the clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used = 5.0
        self.waits: list[float] = []

    def run(self, seconds: float, threads: float) -> None:
        self.now += seconds
        self.used += seconds * threads

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def create(machine: Machine) -> Callable[[float], CpuThrottle]:
    def create_throttle(quota: float) -> CpuThrottle:
        return CpuThrottle(
            quota, now=lambda: machine.now, used=lambda: machine.used, sleep=machine.sleep
        )

    return create_throttle


def test_work_within_the_quota_never_waits(
    machine: Machine, create: Callable[[float], CpuThrottle]
) -> None:
    throttle = create(1.5)
    machine.run(0.02, threads=1)
    throttle()
    assert machine.waits == []


@pytest.mark.parametrize("quota", [0.5, 1, 1.5])
def test_threads_beyond_the_quota_use_less_than_it_in_the_long_run(
    machine: Machine, create: Callable[[float], CpuThrottle], quota: float
) -> None:
    throttle = create(quota)
    started, used = machine.now, machine.used
    for _ in range(100):
        machine.run(0.01, threads=2)
        throttle()
    share = (machine.used - used) / (machine.now - started) / quota
    assert 0.9 < share < 1


def test_idle_time_is_not_saved_for_later(
    machine: Machine, create: Callable[[float], CpuThrottle]
) -> None:
    throttle = create(1)
    machine.run(60, threads=0)
    throttle()
    machine.run(0.01, threads=2)
    throttle()
    assert machine.waits == [pytest.approx(0.01, rel=0.2)]


def test_what_others_have_used_is_not_all_made_good_by_one_piece_of_work(
    machine: Machine, create: Callable[[float], CpuThrottle]
) -> None:
    throttle = create(0.5)
    machine.run(1, threads=1)  # a second of refusals
    throttle()
    assert machine.waits == [pytest.approx(0.02 / 0.5, rel=0.1)]
