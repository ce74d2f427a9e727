"""The queries of the dashboard and of the rules, and what they ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry.metrics import Metrics
from tests import optional

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads(
    (GRAFANA / "dashboards/mobilenet-serve.json").read_text(encoding="utf-8")
)
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}

_TARGET = {"job", "instance"}
"""Labels that Prometheus gives whatever it reads."""


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_queries(window: str = "1m") -> list[tuple[str, str]]:
    """Title and query of each, with Grafana's variables as they are for all replicas."""
    return [
        (panel["title"], expand(target["expr"], window))
        for panel in panels()
        for target in panel["targets"]
    ]


def expand(query: str, window: str) -> str:
    return query.replace("$__rate_interval", window).replace("$instance", ".*")


def rule_queries() -> list[tuple[str, str]]:
    return [(rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES]


def known_series() -> dict[str, set[str]]:
    """The labels of each series that there is."""
    found: dict[str, set[str]] = {
        "up": _TARGET,
        "ALERTS": {"alertname", "alertstate", *_TARGET},
        **{rule["record"]: set() for rule in RULES if "record" in rule},
    }
    for collector in Metrics().registry._collector_to_names:
        if not isinstance(collector, MetricWrapperBase):
            found |= {family.name: _TARGET for family in collector.collect()}
            found |= {f"{family.name}_total": _TARGET for family in collector.collect()}
            continue
        labels = _TARGET | set(collector._labelnames)
        if isinstance(collector, Histogram):
            found |= {f"{collector._name}{part}": labels for part in ("_sum", "_count")}
            found[f"{collector._name}_bucket"] = labels | {"le"}
        else:
            total = "_total" if collector._type == "counter" else ""
            found[collector._name + total] = labels
    return found


@dataclass(frozen=True)
class Asked:
    """One selector of a query: a series' name, and what its labels must be."""

    name: str
    labels: dict[str, str]


def selectors(query: str) -> Iterator[Asked]:
    promql_parser = optional.promql_parser
    nodes: list[Any] = []
    promql_parser.walk(promql_parser.parse(query), nodes.append)
    for node in nodes:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            labels = {one.name: one.value for one in selector.matchers.matchers}
            yield Asked(selector.name or "", labels)


def grouped_by(query: str) -> set[str]:
    promql_parser = optional.promql_parser
    found: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(query), look)
    return found
