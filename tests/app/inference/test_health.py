"""When an engine counts as broken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.errors import AppError, ModelOutputInvalidError, OutOfMemoryError
from app.inference.batch import BatchRow, Outcome
from app.inference.streaks import FailureStreaks
from tests.fakes import FakeEngine

ROW = BatchRow({}, queue_s=0, inference_s=0, batch_size=1)


def broken_after(*batches: Sequence[Outcome]) -> bool:
    streaks = FailureStreaks()
    engine = FakeEngine()
    for batch in batches:
        streaks.record(engine, batch)
    return bool(streaks.long())


@pytest.mark.parametrize("error", [AppError(), ModelOutputInvalidError()])
def test_five_batches_without_an_answer_are_enough(error: AppError) -> None:
    assert not broken_after(*[[error]] * 4)
    assert broken_after(*[[error, error]] * 5)


def test_one_answer_ends_the_streak() -> None:
    failed: list[Outcome] = [AppError()]
    assert not broken_after(*[failed] * 5, [AppError(), ROW])
    assert not broken_after(*[failed] * 4, [ROW], *[failed] * 4)


def test_too_little_memory_says_nothing_about_the_engine() -> None:
    assert not broken_after(*[[OutOfMemoryError()]] * 9)
    failed: list[Outcome] = [AppError()]
    assert broken_after(*[failed] * 4, [OutOfMemoryError()], failed)


def test_each_engine_has_its_own_and_a_new_streak_is_another() -> None:
    streaks = FailureStreaks()
    broken, sound = FakeEngine(), FakeEngine()
    for _ in range(5):
        streaks.record(broken, [AppError()])
        streaks.record(sound, [ROW])
    first = streaks.long()
    assert len(first) == 1
    streaks.record(broken, [AppError()])
    assert streaks.long() == first
    streaks.record(broken, [ROW])
    assert not streaks.long()
    for _ in range(5):
        streaks.record(broken, [AppError()])
    assert len(streaks.long()) == 1
    assert streaks.long() != first
