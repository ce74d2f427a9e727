"""mosec: a stage of processes that decode, and one of processes that run the engine on batches.

https://mosecorg.github.io/mosec/examples/pytorch.html and
https://github.com/mosecorg/mosec#performance-tuning
"""

from __future__ import annotations

from typing import Any

import mosec
from numpy.typing import NDArray

from bench.peers.engines import Answer, create_engine
from bench.peers.peer import PeerSettings


class Stage(mosec.Worker):
    """A process with an engine of its own."""

    def __init__(self) -> None:
        super().__init__()
        settings = PeerSettings.from_environment()
        self._engine = create_engine(settings.engine, settings.threads)


class Decode(Stage):
    """Decodes a photo."""

    def deserialize(self, data: bytes) -> bytes:
        """Return the body: it is the photo."""
        return data

    def forward(self, data: bytes) -> NDArray[Any]:
        """Return its pixels."""
        return self._engine.preprocess(data)


class Classify(Stage):
    """Computes a batch."""

    def forward(self, data: list[NDArray[Any]]) -> list[list[Answer]]:
        """Run the engine."""
        return self._engine.classify(data)


def main() -> None:
    """Serve; mosec itself reads the address and the port from the command line."""
    settings = PeerSettings.from_environment()
    server = mosec.Server()
    server.append_worker(Decode, num=settings.workers)
    server.append_worker(
        Classify,
        num=settings.workers,
        max_batch_size=settings.max_batch_size,
        max_wait_time=settings.max_wait_ms,
    )
    server.run()


if __name__ == "__main__":
    main()
