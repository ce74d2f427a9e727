"""What README.md and the pages of docs/ name to who operates the service: it exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from app.settings import ENV_PREFIX, describe_settings
from app.telemetry.metrics import Metrics
from tests.app.telemetry.test_access_log import FIELDS
from tests.deploy.queries import known_series, panels
from tests.test_documents import EVERY_PAGE

ROOT = Path(__file__).parents[1]
HANDBOOK = (ROOT / "docs/operate.md").read_text()
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MARKS = re.findall(r'^    "(\w+): ', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
BENCHES = [path.stem for path in (ROOT / "bench").iterdir()]
SETTINGS = {one.variable for one in describe_settings()}
FOREIGN = re.compile(
    r"OTEL_|HF_|ORT_DISABLE_TELEMETRY|COMPOSE_PROFILES|RAY_SERVE_THROUGHPUT_OPTIMIZED"
    r"|AVERAGE_POOL_2D|MOBILENET_API_KEY$"
)
"""Words of others: variables, and an operator of TensorFlow Lite."""
SERIES = {name.removesuffix("_bucket") for name in known_series()}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
def test_a_target_a_setting_and_a_metric_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"(?:`|\$ )make ([a-z][\w-]*)", text)) <= TARGETS
    assert set(re.findall(r"make test WHAT=(\w+)", text)) <= set(MARKS)
    assert set(re.findall(r"make bench WHAT=(\w+)", text)) <= set(BENCHES)
    words = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))
    named = {word for word in words if not FOREIGN.match(word)}
    assert {word if word in SETTINGS else f"MOBILENET_{word}" for word in named} <= SETTINGS
    metrics = set(re.findall(r"`(mobilenet_(?!v\d)[a-z_]+)`", text)) - {"mobilenet_"}
    assert metrics <= SERIES


def test_the_series_that_a_process_begins_with_are_as_many_as_the_sums_reckon_with() -> None:
    metrics = Metrics()
    metrics.model_info.labels("a model", "its digest", "onnx", "cpu").set(1)

    def count() -> int:
        text = generate_latest(metrics.registry).decode()
        return sum(not line.startswith("#") for line in text.splitlines())

    begun = count()
    metrics.record_request("/classify", 200, 0.1)
    said = f"| {begun} at its start, up to {count() - begun} more with each route and status |"
    assert said in (ROOT / "docs/scale.md").read_text()


def section(title: str) -> str:
    return HANDBOOK.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_handbook_lists_the_fields_of_a_requests_log_line() -> None:
    table = "".join(line for line in section("Logs").splitlines() if line.startswith("| `"))
    fields = FIELDS | {"trace_id"}
    assert set(re.findall(r"`(\w+)`", table)) - {"X-Request-ID"} == fields


def test_a_panel_that_the_handbook_sends_to_is_on_the_dashboard() -> None:
    titles = {panel["title"] for panel in panels()}
    sent = {
        title.replace("\n", " ") for title in re.findall(r"\*([A-Z][^*]+)\*", section("Alerts"))
    }
    assert len(sent) > 5
    assert sent - {"Targets"} <= titles  # Prometheus' own page


def test_the_handbook_has_the_numbers_of_the_manifests() -> None:
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {one["name"].removeprefix(ENV_PREFIX): one.get("value") for one in container["env"]}
    start, live, ready = (container[f"{one}Probe"] for one in ("startup", "liveness", "readiness"))
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]

    def failures(probe: dict[str, Any]) -> str:
        count = probe["failureThreshold"]
        return f"{count} failures in {probe['periodSeconds'] * count} s"

    for number in (
        f"`startupProbe` on `/readyz`, each second, {start['failureThreshold']} times",
        f"`livenessProbe` on `/livez`, {failures(live)}",
        f"`readinessProbe` on `/readyz`, {failures(ready)}",
        f"`preStop` {before} s, `DRAIN_S` {given['DRAIN_S']}",
        f"`SHUTDOWN_TIMEOUT_S` {given['SHUTDOWN_TIMEOUT_S']}",
        f"`terminationGracePeriodSeconds` {pod['terminationGracePeriodSeconds']}",
    ):
        assert f"| {number} |" in HANDBOOK
