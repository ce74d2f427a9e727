"""Rolls a new version over two replicas behind nginx while 8 clients ask: none notices.

Both replicas have one core each, and the drain of the Kubernetes manifests.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from rig.load import Load, LoadGenerator
from rig.photos import load_photos
from rig.server import ServerProcess, is_ready
from tests.deploy.load_balancer import LoadBalancer, find_nginx

pytestmark = [
    pytest.mark.rolling,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light"
    ),
    pytest.mark.skipif(
        shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk"
    ),
]

CONNECTIONS, SECONDS = 8, 32
DRAIN_S, SHUTDOWN_TIMEOUT_S = 5, 20
UNAWARE_S = 2
"""How long a load balancer goes on sending to a replica that was told to end."""


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with LoadGenerator(load_photos(count=60)) as generator:
        yield generator


def replica(number: int) -> ServerProcess:
    cores = sorted(os.sched_getaffinity(0))
    core = cores[number % len(cores)]
    return ServerProcess(
        cores=[core], streams=1, drain_s=DRAIN_S, shutdown_timeout_s=SHUTDOWN_TIMEOUT_S
    )


def check(load: Load, name: str) -> None:
    print(  # noqa: T201  # with -s
        f"\n{name}: {load.refused} refused and {load.broken} broken of {load.requests} requests, "
        f"{load.images_per_s:.1f} answered a second, p99 {load.p99_ms:.0f} ms"
    )
    assert load.requests > 100
    assert (load.refused, load.broken) == (0, 0)


def test_a_new_pod_before_an_old_one_ends_and_no_request_is_repeated(
    generator: LoadGenerator,
) -> None:
    """As on Kubernetes: nothing is retried, and the news that a pod ends is late."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        old = [stack.enter_context(replica(number)) for number in range(2)]
        serving = [one.url for one in old]
        balancer = stack.enter_context(LoadBalancer(serving, retry=False))
        load = threads.submit(generator.run, balancer.url, "raw", CONNECTIONS, SECONDS)
        for number, leaving in enumerate(old):
            new = stack.enter_context(replica(number))
            serving.append(new.url)
            balancer.use(serving)
            ending = threads.submit(leaving.stop)
            time.sleep(UNAWARE_S)
            assert not is_ready(leaving.url)
            assert not ending.done()
            serving.remove(leaving.url)
            balancer.use(serving)
            assert ending.result() == 0
        assert not load.done()
        check(load.result(), "a new one before")


def test_an_old_replica_ends_and_comes_again_behind_a_load_balancer_that_is_not_told(
    generator: LoadGenerator,
) -> None:
    """As with compose: nginx repeats on the other replica what one could not take."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        replicas = [stack.enter_context(replica(number)) for number in range(2)]
        balancer = stack.enter_context(LoadBalancer([one.url for one in replicas]))
        load = threads.submit(generator.run, balancer.url, "raw", CONNECTIONS, SECONDS)
        for one in replicas:
            assert one.stop() == 0
            one.start()
        assert not load.done()
        check(load.result(), "one after the other")
