from __future__ import annotations

import pytest

from app.errors import NotReadyError, OverloadedError, ShuttingDownError
from app.inference.admission import Admission
from app.inference.estimate import Estimate
from tests.app.inference.batcher import create_admission
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_work_is_bounded_and_not_the_number_of_requests() -> None:
    admission = create_admission(capacity=4, images_per_s=10)
    with admission.reserve(3.5):
        with pytest.raises(OverloadedError):
            admission.check(1)
        with admission.reserve(0.25), admission.reserve(0.25):
            assert admission.work == 4


async def test_work_larger_than_the_bound_is_let_in_alone() -> None:
    admission = create_admission(capacity=4, images_per_s=10)
    with admission.reserve(24), pytest.raises(OverloadedError):
        admission.check(0.1)
    with admission.reserve(0.1), pytest.raises(OverloadedError):
        admission.check(24)


@pytest.mark.parametrize(("work", "retry_after"), [(38, "4"), (40, "4"), (41, "5"), (5, "1")])
async def test_retry_after_is_the_time_that_the_work_inside_takes(
    work: float, retry_after: str
) -> None:
    admission = create_admission(capacity=40, images_per_s=10)
    with admission.reserve(work), pytest.raises(OverloadedError) as refused:
        admission.check(36)
    assert refused.value.headers["Retry-After"] == retry_after


async def test_an_empty_house_holds_no_work_whatever_the_fractions() -> None:
    admission = create_admission(capacity=1, images_per_s=10)
    for _ in range(100):
        with admission.reserve(0.1), admission.reserve(0.2), admission.reserve(0.7):
            pass
    assert admission.work == 0.0


async def test_a_place_is_given_back_when_its_work_fails() -> None:
    admission = create_admission(capacity=1, images_per_s=10)
    with pytest.raises(ValueError, match="broken"), admission.reserve():
        raise ValueError("broken")
    admission.check()


async def test_the_first_reason_for_closing_is_kept() -> None:
    admission = create_admission(capacity=1, images_per_s=10)
    admission.close(NotReadyError)
    admission.close(ShuttingDownError)
    with pytest.raises(NotReadyError):
        admission.check()


async def test_the_first_requests_are_expected_to_be_of_one_image() -> None:
    admission = create_admission(capacity=2, images_per_s=10)
    with admission.reserve(1):
        admission.check()
        with admission.reserve(1), pytest.raises(OverloadedError):
            admission.check()


async def test_the_door_expects_what_most_requests_cost() -> None:
    admission = create_admission(capacity=10, images_per_s=10)
    for _ in range(40):
        with admission.reserve(4):
            pass
    with admission.reserve(50):
        pass
    with admission.reserve(4):
        admission.check()
        with admission.reserve(4):
            with pytest.raises(OverloadedError):
                admission.check()
            admission.check(1)


async def test_the_bound_is_one_on_time_when_work_is_slower_than_predicted() -> None:
    clock = FakeClock()
    admission = create_admission(capacity=8, images_per_s=10, now=clock)
    with admission.reserve(3.5):
        for _ in range(100):
            with admission.reserve():
                clock.time += 1 / 7.5
        assert admission.capacity == pytest.approx(5.1)


@pytest.mark.parametrize(
    ("images_per_s", "bound"),
    [
        pytest.param(10, 8 * (1 + 0.85 * 4 / 10) / 2, id="slower than predicted"),
        pytest.param(1, 8, id="faster than predicted"),
    ],
)
async def test_the_bound_moves_half_way_to_what_a_quarter_of_a_second_shows(
    images_per_s: float, bound: float
) -> None:
    clock = FakeClock()
    admission = create_admission(capacity=8, images_per_s=images_per_s, now=clock)
    with admission.reserve(7):
        with admission.reserve(1):
            pass
        clock.time += 0.25
        with admission.reserve(1):
            pass
        assert admission.capacity == pytest.approx(bound)


@pytest.mark.parametrize(("others", "capacity"), [(3, 4), (2, 8)])
async def test_the_bound_is_learnt_while_half_of_it_is_in_flight(
    others: float, capacity: float
) -> None:
    clock = FakeClock()
    admission = create_admission(capacity=8, images_per_s=10, now=clock)
    with admission.reserve(others):
        for _ in range(2):
            with admission.reserve(1):
                pass
            clock.time += 1000
        assert admission.capacity == pytest.approx(capacity, abs=0.1)


async def test_a_slow_machine_asks_clients_to_come_back_later() -> None:
    clock = FakeClock()
    admission = create_admission(capacity=8, images_per_s=10, now=clock)
    with admission.reserve(4):
        for _ in range(3):
            with admission.reserve(0):
                clock.time += 1
        assert admission.capacity == 2
        with pytest.raises(OverloadedError) as refused:
            admission.check(1)
    assert refused.value.headers["Retry-After"] == "2"


async def test_the_bound_is_as_predicted_when_little_waits() -> None:
    clock = FakeClock()
    admission = create_admission(capacity=8, images_per_s=10, now=clock)
    for _ in range(100):
        with admission.reserve():
            clock.time += 10
    assert admission.capacity == 8


@pytest.mark.parametrize(
    ("costs", "most", "window"),
    [
        pytest.param([1, 3, 1], 3, (2, 4), id="the dearest may come together"),
        pytest.param([1] * 9, 3, (3, 3), id="no more than may be open"),
        pytest.param([9, 1], 2, (1, 9), id="one, however dear"),
    ],
)
async def test_images_of_one_request_leave_half_of_the_bound_to_others(
    costs: list[float], most: int, window: tuple[int, float]
) -> None:
    assert create_admission(capacity=8, images_per_s=10).window(costs, most) == window


async def test_the_bound_follows_a_machine_that_becomes_faster() -> None:
    admission = create_admission(capacity=8, images_per_s=10)
    admission.image_s.learn(seconds=1, units=20)
    assert admission.images_per_s == 20
    assert admission.capacity == 16


async def test_what_runs_is_let_in_besides_what_waits() -> None:
    image_s = Estimate(0.1)
    admission = Admission(queue_s=0.8, streams=2, running=3, image_s=image_s, now=FakeClock())
    assert admission.capacity == 0.8 * 2 / 0.1 + 3
