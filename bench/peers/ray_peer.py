"""Ray Serve: replicas with a core each, batches, and HAProxy in front.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html,
https://docs.ray.io/en/latest/serve/advanced-guides/performance.html and
https://docs.ray.io/en/latest/serve/advanced-guides/haproxy-guide.html
"""

from __future__ import annotations

import signal
import sys
import tempfile

import ray
from ray import serve
from starlette.requests import Request

from bench.peers.engines import Answer, create_engine
from bench.peers.peer import PeerSettings

SETTINGS = PeerSettings.from_environment()
"""Read on import because `serve.batch` wants them there."""

_END = {signal.SIGTERM, signal.SIGINT}


class Classifier:
    """Labels photos."""

    def __init__(self) -> None:
        self._engine = create_engine(SETTINGS.engine, SETTINGS.threads)

    @serve.batch(
        max_batch_size=SETTINGS.max_batch_size, batch_wait_timeout_s=SETTINGS.max_wait_ms / 1000
    )
    async def classify(self, photos: list[bytes]) -> list[list[Answer]]:
        """Decode and label the photos of a batch."""
        return self._engine.classify([self._engine.preprocess(photo) for photo in photos])

    async def __call__(self, request: Request) -> list[Answer]:
        """Answer one request, whose body is a photo."""
        answer: list[Answer] = await self.classify(await request.body())
        return answer


def main() -> None:
    """Serve on the port that the first argument names, until told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _END)
    ray.init(
        num_cpus=SETTINGS.workers * (SETTINGS.threads or 1),
        include_dashboard=False,
        _temp_dir=tempfile.gettempdir(),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    deployment = serve.deployment(
        num_replicas=SETTINGS.workers,
        ray_actor_options={"num_cpus": SETTINGS.threads or 1},
        max_ongoing_requests=8 * SETTINGS.max_batch_size,
    )(Classifier)
    serve.run(deployment.bind(), route_prefix="/classify")
    signal.sigwait(_END)
    ray.shutdown()


if __name__ == "__main__":
    main()
