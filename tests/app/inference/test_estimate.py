from __future__ import annotations

import pytest

from app.inference.estimate import Estimate


def test_a_guess_holds_until_the_first_observation_replaces_it() -> None:
    estimate = Estimate(9.0)
    assert estimate.value == 9.0
    estimate.learn(seconds=1.0, units=4.0)
    assert estimate.value == 0.25


@pytest.mark.parametrize("later", [0.1, 10.0])
def test_it_follows_a_machine_that_becomes_faster_or_slower(later: float) -> None:
    estimate = Estimate(1.0)
    for _ in range(100):
        estimate.learn(1.0, 1.0)
    for _ in range(60):
        estimate.learn(later, 1.0)
    assert estimate.value == pytest.approx(later, rel=0.5)


def test_a_large_piece_of_work_says_more_than_a_small_one() -> None:
    estimate = Estimate(1.0)
    estimate.learn(seconds=100.0, units=100.0)
    estimate.learn(seconds=0.1, units=0.01)
    assert estimate.value == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("seconds", "units"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_clock_that_stood_still_and_work_of_nothing_teach_nothing(
    seconds: float, units: float
) -> None:
    estimate = Estimate(9.0)
    estimate.learn(seconds, units)
    assert estimate.value == 9.0


def test_a_process_that_was_stopped_in_the_middle_of_its_work_is_not_slow() -> None:
    estimate = Estimate(1.0)
    for _ in range(20):
        estimate.learn(seconds=1.0, units=1.0)
    estimate.learn(seconds=3600.0, units=1.0)
    assert estimate.value < 2.0
