"""Prometheus itself, in a process of its own, with this project's configuration sped up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
import yaml

from rig.server import find_free_port
from tests.deploy.queries import PROMETHEUS

_WAIT_S = 120
_SHORTER = {"d": "h", "h": "m", "m": "s"}


def find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install prometheus")
    return path


def speed_up(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules, with windows and waits a sixtieth as long: minutes become seconds."""
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"\[(\d+)([dhm])\]", lambda m: f"[{m[1]}{_SHORTER[m[2]]}]", rule["expr"]
            )
            if "for" in rule:
                rule["for"] = f"{rule['for'][:-1]}s"
    return rules


class Prometheus:
    """A context manager: reads the targets that it is told of, once a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._targets = folder / "targets.json"
        self._program = find("prometheus")
        self.seen: set[str] = set()

    def set_targets(self, urls: list[str]) -> None:
        addresses = [url.removeprefix("http://") for url in urls]
        written = self._folder / "targets.new"
        written.write_text(json.dumps([{"targets": addresses}] if urls else []))
        written.replace(self._targets)

    def __enter__(self) -> Self:
        configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (job,) = configuration["scrape_configs"]
        del job["dns_sd_configs"]  # there is no compose network here
        job["file_sd_configs"] = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        rules = speed_up(yaml.safe_load((PROMETHEUS / "rules.yml").read_text()))
        (self._folder / "rules.yml").write_text(yaml.safe_dump(rules))
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        port = find_free_port()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                self._program,
                f"--config.file={self._folder}/prometheus.yml",
                f"--storage.tsdb.path={self._folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )
        self.wait_for(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()
        self.client.close()

    def _read_log(self) -> str:
        return (self._folder / "log").read_text()

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/-/ready").is_success
        except httpx2.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def differs(self, expression: str, value: str) -> bool:
        """Whether a query gives one series, with another value than this."""
        return [series["value"][1] != value for series in self.query(expression)] == [True]

    def firing(self) -> set[str]:
        """Names of the alerts that fire; what has fired once is kept in `seen`."""
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        names = {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}
        self.seen |= names
        return names

    def wait_for(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + _WAIT_S
        while not condition():
            assert time.monotonic() < end, f"{sorted(self.seen)}\n{self._read_log()}"
            time.sleep(0.2)
