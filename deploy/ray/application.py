"""The service as a Ray Serve application: replicas with an engine each, on all of Ray's machines.

`serve run deploy.ray.application:application` starts it on a running cluster with what the
environment says, `serve deploy deploy/ray/serve.yaml` with what that file says. Ray's proxy takes
the place of uvicorn, so that what `app/server/connection.py` holds (headers, slow clients) is the
load balancer's to hold.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from ray import serve

from app.api.application import create_app
from app.api.parts import get_parts
from app.inference.lifecycle import Lifecycle
from app.inference.memory import tune_malloc
from app.settings import load_settings

CORES = 2
"""Of a replica: what Ray reserves, and what the engine uses."""
ONGOING = 8 * CORES
"""Requests inside a replica that Ray aims at: 80 ms of work for each core, at 100 images/s."""
_SWITCH_S = 0.0005  # as in app/server/uvicorn_server.py


class UnhealthyError(RuntimeError):
    """The replica can no longer answer; Ray replaces it."""


class Replica:
    """One replica.

    Args:
        cores: what its engine may use; None: CORES.
    """

    def __init__(self, cores: int = CORES) -> None:
        self._cores = cores
        self._lifecycle: Lifecycle | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray serves; its start ends when the engine is warm: no request comes sooner."""
        tune_malloc()
        sys.setswitchinterval(_SWITCH_S)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Ray's actors see the machine's cores, not those that Ray reserved for them.
        app = create_app(load_settings(threads=self._cores), started.set_exception)
        lifecycle = get_parts(app).lifecycle
        self._lifecycle = lifecycle
        start = app.router.lifespan_context

        async def wait() -> None:
            await lifecycle.ready.wait()
            started.set_result(None)

        @asynccontextmanager
        async def start_warm(app: FastAPI) -> AsyncIterator[None]:
            async with start(app):
                loading = asyncio.create_task(wait())
                await started
                yield
                del loading  # the loop itself keeps no task alive

        app.router.lifespan_context = start_warm
        return app

    async def check_health(self) -> None:
        """Ray asks this every few seconds, and replaces a replica that fails it three times.

        Raises:
            UnhealthyError: a stream is dead or hangs, or the engine fails on every batch.
        """
        checks = self._lifecycle.checks() if self._lifecycle else {}
        failing = [name for name, passes in checks.items() if not passes and name != "accepting"]
        if failing:
            raise UnhealthyError(", ".join(failing))


MobileNet = serve.deployment(
    name="mobilenet",
    ray_actor_options={"num_cpus": CORES},
    # The service's own queue refuses what would wait too long, with 429 and Retry-After.
    max_ongoing_requests=8 * ONGOING,
    autoscaling_config={
        "min_replicas": 2,
        "max_replicas": 16,
        "target_ongoing_requests": ONGOING,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
    },
    health_check_period_s=5,
    health_check_timeout_s=10,
    graceful_shutdown_wait_loop_s=1,
    graceful_shutdown_timeout_s=20,
)(serve.ingress(None)(Replica))

application = MobileNet.bind()
