"""The application under Ray Serve, for real: two replicas of one core each."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rig.load import LoadGenerator
from rig.photos import load_photos
from rig.server import find_free_port, wait_until_ready

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk"
)

CONNECTIONS, REPLICAS = 16, 2
START_S, LOAD_S = 60, 12
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else a token is left in the home directory
    "RAY_USAGE_STATS_ENABLED": "0",
}


class RayService:
    """The application on a local Ray whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._mark = f"TMPDIR={folder}\0".encode()
        self._port = find_free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def deploy(self, **options: Any) -> None:
        from ray import serve

        from deploy.ray.application import MobileNet

        serve.start(http_options={"host": "127.0.0.1", "port": self._port})
        replica = MobileNet.options(ray_actor_options={"num_cpus": 1}, **options)
        serve.run(replica.bind(cores=1))
        wait_until_ready(self.url, START_S)

    @property
    def replicas(self) -> list[int]:
        """Their processes."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                named = (process / "cmdline").read_bytes().startswith(b"ray::ServeReplica")
                if named and self._mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.perf_counter() + START_S
    while not condition():
        assert time.perf_counter() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayService]:
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TMPDIR": str(folder), **ENVIRONMENT}.items():
            patch.setenv(name, value)
        ray = pytest.importorskip(
            "ray", reason="Ray is not installed: .venv/bin/pip install -r requirements/ray.txt"
        )
        local = {"include_dashboard": False, "log_to_driver": False, "_temp_dir": str(folder)}
        ray.init(num_cpus=REPLICAS, **local)
        try:
            service = RayService(folder)
            service.deploy(num_replicas=REPLICAS, autoscaling_config=None)
            yield service
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with LoadGenerator(load_photos(count=60)) as generator:
        yield generator


def test_it_answers_as_without_ray(service: RayService, cat: bytes) -> None:
    answer = httpx2.post(f"{service.url}/classify", files={"file": cat}, timeout=10).json()
    best = answer["predictions"][0]
    assert best["label"] == "tabby, tabby cat"
    assert best["score"] == pytest.approx(0.4315, abs=0.002)
    assert len(service.replicas) == REPLICAS


@needs_wrk
def test_a_killed_replica_is_replaced_and_loses_what_it_held(
    service: RayService, generator: LoadGenerator
) -> None:
    victim, *_ = service.replicas
    with ThreadPoolExecutor() as threads:
        load = threads.submit(generator.run, service.url, "raw", CONNECTIONS, 2 * LOAD_S)
        time.sleep(LOAD_S / 4)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in service.replicas)
        wait_for(lambda: len(service.replicas) == REPLICAS)
    # What it held, and what was sent to it before its death was noticed.
    meanwhile = load.result()
    assert meanwhile.refused + meanwhile.broken <= 2 * CONNECTIONS
    after = generator.run(service.url, "raw", CONNECTIONS, LOAD_S)
    assert (after.refused, after.broken) == (0, 0)


@needs_wrk
def test_load_starts_another_replica(service: RayService, generator: LoadGenerator) -> None:
    quick = {"upscale_delay_s": 1, "downscale_delay_s": 1, "look_back_period_s": 2}
    scale = {"min_replicas": 1, "max_replicas": REPLICAS, "target_ongoing_requests": 8}
    service.deploy(autoscaling_config={**scale, **quick, "metrics_interval_s": 0.5})
    wait_for(lambda: len(service.replicas) == 1)
    with ThreadPoolExecutor() as threads:
        load = threads.submit(generator.run, service.url, "raw", CONNECTIONS, 2 * LOAD_S)
        wait_for(lambda: len(service.replicas) == REPLICAS)
        assert load.result().broken == 0
