"""docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from app.telemetry.metrics import Metrics
from reference.markdown import code, page, table

_INTRODUCTION: Final = """\
`GET /metrics` answers in Prometheus' text format, for one process: let Prometheus scrape each
replica. A histogram's series end in `_bucket`, `_sum` and `_count`."""


def write() -> str:
    """Every metric."""
    # Those of the process come last.
    every = Metrics().registry._collector_to_names  # noqa: SLF001  # told nowhere else
    collectors = sorted(every, key=lambda one: not isinstance(one, MetricWrapperBase))
    buckets = [
        [code(metric.name), ", ".join(_bounds(collector))]
        for collector in collectors
        if isinstance(collector, Histogram)
        for metric in collector.describe()
    ]
    return page(
        "Metrics",
        "app/telemetry/metrics.py",
        _INTRODUCTION,
        table(
            ["metric", "kind", "labels", "meaning"],
            (row for collector in collectors for row in _rows(collector)),
        ),
        "## Buckets",
        "Upper bounds, in the metric's own unit.",
        table(["metric", "bounds"], buckets),
    )


def _rows(collector: Collector) -> Iterator[list[str]]:
    labels: Sequence[str] = ()
    if isinstance(collector, MetricWrapperBase):
        labels = collector._labelnames  # noqa: SLF001  # told nowhere else
    for metric in collector.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield [code(name), metric.type, ", ".join(map(code, labels)), metric.documentation]


def _bounds(histogram: Histogram) -> list[str]:
    bounds = histogram._upper_bounds  # noqa: SLF001  # told nowhere else
    return [f"{bound:g}" for bound in bounds if bound < float("inf")]
