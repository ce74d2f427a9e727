"""The dashboard's queries and the alerts, in a real Prometheus that reads a real service."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from rig.server import ServerProcess, find_free_port
from tests.deploy.queries import ALERTS, PROMETHEUS, dashboard_queries
from tests.image_files import uniform
from tests.observability.load import repeat
from tests.observability.prometheus import Prometheus, find

pytestmark = [pytest.mark.observability, pytest.mark.slow]

WINDOW = "15s"
ALERTING: tuple[dict[str, Any], ...] = (
    {"queue_ms": 1, "max_batch_size": 1},
    {"queue_ms": 60_000, "request_timeout_s": 300, "max_batch_size": 1},
    {"drain_s": 60, "shutdown_timeout_s": 100},
    {},
    {},
)
"""Refuses most, answers all of them late, stops slowly, stands still at times, and ends at once."""
SLOW = ("-m", "rig.stand_in", "--streams=1", "--image-ms=700")


def promtool(*arguments: str, text: str = "") -> str:
    """See it find nothing wrong with files, or with a text; what it says."""
    command = [find("promtool"), *arguments]
    done = subprocess.run(
        command, cwd=PROMETHEUS, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules_test.yml")


def test_promtool_finds_nothing_wrong_with_the_metrics(client: httpx2.Client, cat: bytes) -> None:
    client.post("/classify", files={"file": cat})
    assert promtool("check", "metrics", text=client.get("/metrics").text) == ""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, list[str]]]:
    """Two replicas under all kinds of load, read for long enough to fill every window."""
    cat = (Path(__file__).parents[1] / "images/cat.jpg").read_bytes()
    other = [uniform(value, (64, 64), "PNG") for value in range(256)]
    with ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(tmp_path_factory.mktemp("prometheus")))
        replicas = [stack.enter_context(ServerProcess(cache_mib=8)) for _ in range(2)]
        urls = [replica.url for replica in replicas]
        prometheus.set_targets(urls)
        client = stack.enter_context(httpx2.Client(timeout=30))

        def ask(number: int) -> None:
            url = urls[number % 2]
            client.post(f"{url}/classify", files={"file": other[number // 2 % 256]})
            client.post(f"{url}/embed", files={"file": other[number // 2 % 256]})
            if number % 10 < 2:
                client.post(f"{url}/classify", files={"file": b"no image"})
                client.post(f"{url}/classify", files={"file": cat[:5000]})
                client.post(f"{url}/classify/batch", files=[("file", cat), ("file", other[0])])
                client.post(f"{url}/classify?top_k=1&top_k=2", content=cat)
                client.get(f"{url}/nothing")

        stack.enter_context(repeat(ask, threads=3))
        prometheus.wait_for(lambda: len(prometheus.query("up == 1")) == 2)
        time.sleep(float(WINDOW[:-1]))
        yield prometheus, urls


@pytest.mark.parametrize(("panel", "query"), dashboard_queries(WINDOW))
def test_a_query_of_the_dashboard_has_data(
    watched: tuple[Prometheus, list[str]], panel: str, query: str
) -> None:
    prometheus, urls = watched
    found = prometheus.query(query)
    values = [float(series["value"][1]) for series in found]
    assert values
    assert any(math.isfinite(value) for value in values)
    instances = {series["metric"].get("instance") for series in found} - {None}
    assert not instances or instances == {url.removeprefix("http://") for url in urls}


def test_each_alert_fires_when_its_time_has_come(tmp_path: Path) -> None:
    cat = uniform(1, (64, 64), "PNG")
    port = find_free_port()
    with ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(tmp_path))
        busy, slow, draining, late, restarting = (
            stack.enter_context(ServerProcess(program=SLOW, **settings)) for settings in ALERTING
        )
        servers = [busy, slow, draining, late, restarting]
        prometheus.set_targets([*(one.url for one in servers), f"http://127.0.0.1:{port}"])
        prometheus.wait_for(lambda: len(prometheus.query("up == 1")) == len(servers))
        assert prometheus.firing() <= {"MobilenetDown"}
        client = stack.enter_context(httpx2.Client(timeout=None))
        number = iter(range(10**9))

        def ask(server: ServerProcess) -> None:
            image = cat + str(next(number)).encode()  # each is computed anew
            client.post(
                f"{server.url}/classify", content=image, headers={"Content-Type": "image/png"}
            )

        def stall(_: int) -> None:
            os.kill(late._process.pid, signal.SIGSTOP)
            time.sleep(0.4)
            os.kill(late._process.pid, signal.SIGCONT)
            time.sleep(0.2)

        draining._process.terminate()
        started = f'process_start_time_seconds{{instance="{restarting.url[7:]}"}}'
        for _ in range(2):
            before = prometheus.query(started)[0]["value"][1]
            restarting.kill()
            restarting.start()
            prometheus.wait_for(partial(prometheus.differs, started, before))
        with (
            repeat(lambda _: ask(busy), threads=4),
            repeat(lambda _: ask(slow), threads=4),
            repeat(stall),
        ):
            expected = set(ALERTS) - {"MobilenetGone"}
            prometheus.wait_for(lambda: prometheus.firing() and prometheus.seen >= expected)
        prometheus.set_targets([])
        prometheus.wait_for(lambda: "MobilenetGone" in prometheus.firing())
    assert prometheus.seen == set(ALERTS)


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == set(
            ALERTS
        )
