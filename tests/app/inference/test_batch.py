"""What an engine is asked for one batch, and what each image gets of it."""

from __future__ import annotations

from opentelemetry.trace import SpanContext

from app.inference.batch import BatchItem, BatchRow, Outcome, run_batch
from app.inference.plan import Plan
from model.network.config import LOGITS, POOLED
from tests.fakes import FakeClock, FakeEngine, pixels


def item(engine: FakeEngine, value: int, *outputs: str, output_stride: int = 32) -> BatchItem:
    return BatchItem(Plan(engine, frozenset(outputs), output_stride=output_stride), pixels(value))


def run(*items: BatchItem, span: SpanContext | None = None) -> list[BatchRow]:
    outcomes: list[Outcome] = run_batch(items, alone=False, now=FakeClock(), span=span)
    return [outcome for outcome in outcomes if isinstance(outcome, BatchRow)]


def test_the_engine_computes_all_that_is_wanted_and_each_image_gets_what_it_wanted() -> None:
    engine = FakeEngine()
    rows = run(item(engine, 1, LOGITS), item(engine, 2, POOLED))
    assert engine.outputs == [{LOGITS, POOLED}]
    assert [set(row.arrays) for row in rows] == [{LOGITS}, {POOLED}]
    run(item(engine, 3, POOLED))
    assert engine.outputs[1] == {POOLED}


def test_the_engine_runs_at_the_output_stride_that_is_wanted() -> None:
    engine = FakeEngine()
    run(item(engine, 1, LOGITS, output_stride=8))
    assert engine.strides == [8]


def test_a_batch_that_is_split_runs_on_as_it_began() -> None:
    engine, span = FakeEngine(), SpanContext(1, 2, is_remote=False)

    def fail(values: list[int]) -> None:
        if len(values) > 1:
            raise MemoryError

    engine.fail = fail
    rows = run(item(engine, 1, LOGITS), item(engine, 2, LOGITS), span=span)
    assert engine.batches == [[1, 2], [1], [2]]
    assert engine.alone == [False, False, False]
    assert [row.span for row in rows] == [span, span]


def test_each_image_is_finished_as_its_plan_says_where_it_was_computed() -> None:
    engine = FakeEngine()
    plans = [Plan(engine, frozenset({LOGITS}), finish=finish) for finish in (len, list)]
    rows = run(*(BatchItem(plan, pixels(1)) for plan in plans))
    assert [row.finished for row in rows] == [1, [LOGITS]]
    assert plans[0] == plans[1]
