"""Splits a request's time into stages, by the service's metrics before and after a load."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from typing import Self

from matplotlib import pyplot as plt
from prometheus_client.parser import text_string_to_metric_families

from bench.documents import save_plot

STAGES = ("decode", "queue", "inference", "other")
_STAGE = "mobilenet_stage_duration_seconds"
_READABLE = 0.04
"""Shares less than this have no room for a number."""
_REQUEST = "mobilenet_request_duration_seconds"


class StageTimes:
    """Sums and counts of a server's stages since it started."""

    def __init__(self, url: str) -> None:
        self._totals: dict[str, float] = defaultdict(float)
        with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310  # our own address
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in {f"{_STAGE}_sum", f"{_STAGE}_count"}:
                    self._totals[sample.name + sample.labels["stage"]] += sample.value
                elif sample.labels.get("route") == "/classify":
                    self._totals[sample.name] += sample.value

    def since(self, before: Self) -> dict[str, float]:
        """Return mean milliseconds a request, by stage, of those that came after `before`.

        `other` is the rest of a request: its body, its answer, and waiting for the event loop.
        """

        def mean_ms(name: str, label: str = "") -> float:
            sums, counts = (
                self._totals[f"{name}_{part}{label}"] - before._totals[f"{name}_{part}{label}"]
                for part in ("sum", "count")
            )
            return 1000 * sums / counts

        times = {stage: mean_ms(_STAGE, stage) for stage in STAGES[:-1]}
        return {**times, "other": mean_ms(_REQUEST) - sum(times.values())}


def draw_stages(times: dict[int, dict[str, float]]) -> None:
    """Draw one bar for each number of connections, with each stage's share and milliseconds."""
    figure, axes = plt.subplots(figsize=(7, 3.2))
    rows = [str(connections) for connections in times]
    left = [0.0] * len(rows)
    for stage in STAGES:
        shares = [row[stage] / sum(row.values()) for row in times.values()]
        bars = axes.barh(rows, shares, left=left, label=stage)
        values = [row[stage] for row in times.values()]
        texts = [
            f"{ms:.1f}" if share > _READABLE else ""
            for ms, share in zip(values, shares, strict=True)
        ]
        axes.bar_label(bars, texts, label_type="center", color="white", fontsize=9)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of a request's time; in the bars, milliseconds")
    axes.set_ylabel("connections")
    axes.invert_yaxis()
    axes.legend(ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.5, 1))
    save_plot(figure, "stages.svg")
