from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram

from app.api.application import create_app
from app.api.parts import get_parts
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.deploy.queries import (
    ALERTS,
    DASHBOARD,
    GRAFANA,
    PROMETHEUS,
    ROOT,
    RULES,
    dashboard_queries,
    expand,
    grouped_by,
    known_series,
    panels,
    rule_queries,
    selectors,
)

ALL = [*dashboard_queries(), *rule_queries()]
KNOWN = known_series()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "query"), ALL)
def test_a_query_asks_only_for_series_and_labels_that_there_are(name: str, query: str) -> None:
    asked = list(selectors(query))
    assert asked
    for one in asked:
        assert set(one.labels) <= KNOWN[one.name], one
    assert grouped_by(query) <= set().union(*(KNOWN[one.name] for one in asked))


@pytest.mark.thorough
def test_a_bound_of_a_bucket_that_a_query_names_is_one() -> None:
    metrics = (ROOT / "tests/snapshots/metrics.txt").read_text()
    named = [
        (one.name, one.labels["le"])
        for _, query in ALL
        for one in selectors(query)
        if "le" in one.labels
    ]
    assert named
    for name, bound in named:
        found = re.search(
            rf"^{name.removesuffix('_bucket')} .* buckets=(.*)$", metrics, re.MULTILINE
        )
        assert found
        assert float(bound) in map(float, found[1].split(","))


def labels(metric: Histogram, name: str) -> set[str]:
    return {sample.labels[name] for family in metric.collect() for sample in family.samples}


@pytest.mark.thorough
def test_a_stage_or_a_class_of_status_that_a_query_names_is_one() -> None:
    metrics = Metrics()
    metrics.record_request("/", 200, 0.1)
    stages = labels(metrics.stage_duration, "stage")
    classes = labels(metrics.request_duration, "status")
    asked = [one for _, query in ALL for one in selectors(query)]
    named = {one.labels["stage"] for one in asked if "stage" in one.labels}
    timed = {
        one.labels["status"]
        for one in asked
        if one.name.startswith("mobilenet_request_duration") and "status" in one.labels
    }
    assert named
    assert named <= stages
    assert timed == classes


@pytest.mark.thorough
def test_a_panel_of_seconds_or_bytes_or_shares_says_so() -> None:
    shown = set()
    for panel in panels():
        for target in panel["targets"]:
            query = expand(target["expr"], "1m")
            named = {re.sub("_(bucket|sum|count)$", "", one.name) for one in selectors(query)}
            last = {name.rpartition("_")[2] for name in named}
            unit = {"seconds": "s", "bytes": "bytes", "rate1h": "percentunit"}
            (word,) = last if len(last) == 1 else {""}
            other = "changes(" in query or "/ 0.0" in query  # a count, and a rate of burning
            if word in unit and not other and panel["type"] != "heatmap":
                assert panel["fieldConfig"]["defaults"]["unit"] == unit[word], panel["title"]
                shown.add(word)
    assert shown == {"seconds", "bytes", "rate1h"}


@pytest.mark.thorough
def test_the_objectives_are_over_all_routes_that_take_images() -> None:
    app = create_app(Settings())
    guarded = get_parts(app).routes.image_paths
    declared = set(app.openapi()["paths"])
    patterns = {
        one.labels["route"]
        for _, query in rule_queries()
        for one in selectors(query)
        if "route" in one.labels
    }
    for pattern in patterns:
        matched = {path for path in guarded | declared if re.fullmatch(pattern, path)}
        assert matched <= guarded | {path.replace(":path", "") for path in guarded}
    assert any(all(re.fullmatch(pattern, path) for path in guarded) for pattern in patterns)


def test_each_alert_says_what_to_do_and_how_urgent_it_is() -> None:
    handbook = (ROOT / "docs/operate.md").read_text()
    described = set(re.findall(r"^### (Mobilenet\w+)$", handbook, re.MULTILINE))
    assert described == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"] == f"docs/operate.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith(".")


@pytest.mark.thorough
def test_no_rule_is_recorded_twice_or_for_nobody() -> None:
    recorded = [rule["record"] for rule in RULES if "record" in rule]
    assert len(set(recorded)) == len(recorded)
    asked = {one.name for _, query in ALL for one in selectors(query)}
    assert set(recorded) <= asked


def test_replicas_are_found_under_the_names_that_compose_gives_them(
    compose: dict[str, Any],
) -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    serving = {name for name, service in compose.items() if "build" in service}
    assert set(discovery["names"]) == serving
    assert (discovery["type"], discovery["port"]) == ("A", Settings().port)
    assert job["job_name"] == "mobilenet"
    assert all((PROMETHEUS / file).exists() for file in configuration["rule_files"])
    mounts = dict(one.split(":")[:2] for one in compose["prometheus"]["volumes"])
    read = f"--config.file={mounts['./deploy/prometheus']}/prometheus.yml"
    assert read in compose["prometheus"]["command"]


def test_grafana_finds_its_data_and_its_dashboard(compose: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    variable = DASHBOARD["templating"]["list"][0]
    assert source["uid"] == variable["current"]["value"]
    assert source["url"] == "http://prometheus:9090"
    assert source["type"] == variable["query"] == "prometheus"
    mounts = dict(one.split(":")[:2] for one in compose["grafana"]["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"  # its default
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/mobilenet-serve.json"


def test_what_watches_is_reached_from_this_machine_alone(compose: dict[str, Any]) -> None:
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in compose[name]["ports"])


@pytest.mark.thorough
def test_every_panel_shows_something_in_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        assert columns.stop <= 24
        squares = set(itertools.product(columns, rows))
        assert not squares & taken
        taken |= squares
    for panel in panels():
        assert panel["type"] in {"stat", "timeseries", "heatmap"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for target in panel["targets"]:
            used = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = grouped_by(target["expr"].replace("$__rate_interval", "1m"))
            assert used <= (grouped or {"instance"})
