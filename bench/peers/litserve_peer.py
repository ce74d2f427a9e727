"""LitServe: batches, decoded by a pool of threads in the worker that runs the engine.

https://lightning.ai/docs/litserve/features/batching and
https://lightning.ai/docs/litserve/speed-up-serving-by-200x
"""
# No postponed annotations here: LitServe looks at that of `request` to know the body's form.

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
from fastapi import Request
from numpy.typing import NDArray

from bench.peers.engines import Answer, create_engine
from bench.peers.peer import PeerSettings


class Classifier(litserve.LitAPI):
    """Labels photos."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        """Load the engine, in each worker."""
        settings = PeerSettings.from_environment()
        self._engine = create_engine(settings.engine, settings.threads)
        self._pool = None if settings.threads is None else ThreadPoolExecutor(settings.threads)

    def decode_request(self, request: Request) -> bytes:
        """Return the photo of the form, which LitServe has read."""
        photo: bytes = request["file"].file.read()
        return photo

    def batch(self, inputs: list[bytes]) -> list[NDArray[Any]]:
        """Decode all photos of the batch."""
        return list((self._pool.map if self._pool else map)(self._engine.preprocess, inputs))

    def predict(self, x: list[NDArray[Any]]) -> list[list[Answer]]:
        """Run the engine."""
        return self._engine.classify(x)

    def unbatch(self, output: list[list[Answer]]) -> list[list[Answer]]:
        """Return the answers, one a request already."""
        return output

    def encode_response(self, output: list[Answer]) -> list[Answer]:
        """Return the answer, which is JSON as it is."""
        return output


def main() -> None:
    """Serve on the port that the first argument names."""
    settings = PeerSettings.from_environment()
    api = Classifier(
        max_batch_size=settings.max_batch_size,
        batch_timeout=settings.max_wait_ms / 1000,
        api_path="/classify",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=settings.workers,
        fast_queue=settings.tuned,
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )


if __name__ == "__main__":
    main()
