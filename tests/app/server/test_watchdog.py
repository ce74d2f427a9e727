from __future__ import annotations

import threading
from collections.abc import Hashable

import pytest

from app.server import watchdog
from app.server.watchdog import Watch, Watchdog
from tests.fakes import FakeClock


class Work:
    """Tasks that a test begins and ends by hand, watched for ten seconds each."""

    def __init__(self) -> None:
        self.running: list[Hashable] = []
        self.clock = FakeClock()
        watch = Watch("It has been at it", 10, lambda: self.running)
        self.dog = Watchdog([watch], on_hang=lambda _: None, now=self.clock)

    def check_for(self, seconds: int) -> str | None:
        """Check once a second, as the thread does; returns what the last check gave."""
        why = None
        for _ in range(seconds):
            self.clock.time += 1
            why = self.dog.check()
        return why


def test_a_piece_that_takes_too_long_is_the_end() -> None:
    work = Work()
    work.running = [1]
    assert work.check_for(10) is None
    assert work.check_for(1) == ("It has been at it for 10 s: exiting to be restarted.")


def test_work_that_gets_on_may_go_on_for_ever() -> None:
    work = Work()
    for number in range(20):
        work.running = [number, number + 1]
        assert work.check_for(9 // 2) is None
    work.running = []
    assert work.check_for(100) is None


def test_one_piece_that_hangs_is_seen_among_others_that_get_on() -> None:
    work = Work()
    for number in range(11):
        work.running = [number, "stuck"]
        why = work.check_for(1)
    assert why is not None


@pytest.mark.parametrize("gap_s", [11, 3600, 1_000_000])
def test_time_in_which_the_process_did_not_run_does_not_count(gap_s: int) -> None:
    work = Work()
    work.running = [1]
    assert work.check_for(2) is None
    work.clock.time += gap_s  # stopped, or asleep
    assert work.dog.check() is None
    assert work.check_for(6) is None
    assert work.check_for(2) is not None


def test_each_watch_has_its_own_limit_and_its_own_pieces() -> None:
    clock = FakeClock()
    watches = [Watch("The slow one", 100, lambda: [1]), Watch("The quick one", 3, lambda: [1])]
    dog = Watchdog(watches, on_hang=lambda _: None, now=clock)
    reasons = []
    for _ in range(4):
        clock.time += 1
        reasons.append(dog.check())
    assert reasons[:3] == [None] * 3
    assert reasons[3] is not None
    assert reasons[3].startswith("The quick one")


def test_its_thread_checks_by_itself_and_tells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_INTERVAL_S", 0.001)
    told = threading.Event()
    reasons: list[str] = []

    def on_hang(why: str) -> None:
        reasons.append(why)
        told.set()

    with Watchdog([Watch("It", 0, lambda: [1])], on_hang) as dog:
        told.wait()
    assert not dog._thread.is_alive()
    assert len(reasons) == 1
