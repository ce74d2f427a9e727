"""BentoML: adaptive batching in each of its workers.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html and
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html
"""

from __future__ import annotations

from pathlib import Path

import bentoml

from bench.peers.engines import Answer, create_engine
from bench.peers.peer import PeerSettings

SETTINGS = PeerSettings.from_environment()
"""Read on import because BentoML's decorators want them there."""


@bentoml.service(workers=SETTINGS.workers)
class Classifier:
    """Labels photos."""

    def __init__(self) -> None:
        self._engine = create_engine(SETTINGS.engine, SETTINGS.threads)

    @bentoml.api(
        batchable=True,
        max_batch_size=SETTINGS.max_batch_size,
        max_latency_ms=SETTINGS.max_wait_ms,
    )
    def classify(self, file: list[Path]) -> list[list[Answer]]:
        """Decode and label the photos of a batch."""
        return self._engine.classify([self._engine.preprocess(path.read_bytes()) for path in file])
