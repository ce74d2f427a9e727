"""Work in flight, and when an engine counts as broken."""

from __future__ import annotations

import pytest

from app.inference.health import CircuitBreaker, InFlight
from tests.fakes import FakeClock, FakeEngine


def test_work_is_in_flight_while_it_is_done() -> None:
    clock = FakeClock()
    in_flight = InFlight(clock)
    assert (in_flight.ids(), in_flight.longest_s()) == ((), 0)
    with in_flight.track():
        clock.time += 2
        with in_flight.track():
            clock.time += 3
            assert len(set(in_flight.ids())) == 2
            assert in_flight.longest_s() == 5
        with pytest.raises(RuntimeError), in_flight.track():
            raise RuntimeError
        assert len(in_flight.ids()) == 1
    assert in_flight.ids() == ()


def test_five_failed_batches_in_a_row_open_the_circuit() -> None:
    breaker, engine = CircuitBreaker(), FakeEngine()
    for _ in range(4):
        breaker.failed(engine)
    assert not breaker.open_ids()
    breaker.failed(engine)
    assert breaker.open_ids()


def test_an_answer_closes_the_circuit_and_the_count_begins_anew() -> None:
    breaker, engine = CircuitBreaker(), FakeEngine()
    for failures in (5, 4, 4):
        for _ in range(failures):
            breaker.failed(engine)
        assert bool(breaker.open_ids()) == (failures == 5)
        breaker.answered(engine)
        assert not breaker.open_ids()


def test_each_engine_has_its_own_circuit_and_one_that_opens_again_is_another() -> None:
    breaker = CircuitBreaker()
    broken, sound = FakeEngine(), FakeEngine()
    for _ in range(5):
        breaker.failed(broken)
        breaker.answered(sound)
    first = breaker.open_ids()
    assert len(first) == 1
    breaker.failed(broken)
    assert breaker.open_ids() == first
    breaker.answered(broken)
    for _ in range(5):
        breaker.failed(broken)
    assert len(breaker.open_ids()) == 1
    assert breaker.open_ids() != first
