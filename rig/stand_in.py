"""Serves with an engine that sleeps and a decoder that does nothing.

What is left is the work of the process itself: HTTP, the queue, the answers.
`python -m rig.stand_in --streams=1 --image-ms=400 serve ...` takes the place of
`python -m app serve ...`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from app.cli.main import app
from app.inference.decoding import Decoded, DecodeThreads, Decoding
from model.checkpoints.checkpoint import Checkpoint
from model.engines.base import EngineOutput, default_outputs
from model.network.config import LOGITS


class StandInEngine:
    """Sleeps without the GIL as long as a batch would take, and answers zeros.

    Args:
        checkpoint: whose shapes the answers have.
        streams: batches that run at once.
        image_ms: time for each image of a batch, in milliseconds.
    """

    name = "stand-in"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint, *, streams: int, image_ms: float) -> None:
        self.checkpoint = replace(checkpoint, digest="stand-in")  # zeros fail the real one's check
        self.streams = streams
        self._image_s = image_ms / 1000

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,  # noqa: ARG002  # the protocol's signature
        alone: bool = True,  # noqa: ARG002  # the protocol's signature
    ) -> EngineOutput:
        """Answer one batch; see `Engine.run`."""
        time.sleep(len(pixels) * self._image_s)
        config = self.checkpoint.config
        widths = {
            name: config.num_labels if name == LOGITS else config.num_features
            for name in outputs or default_outputs(config)
        }
        return EngineOutput(
            {name: np.zeros((len(pixels), width), np.float32) for name, width in widths.items()}
        )


def skip_decoding(_: DecodeThreads, decoding: Decoding) -> Decoded:
    """Return black pixels at once, in the place of `DecodeThreads`' work on one image."""
    pixels = np.zeros((*decoding.plan.input_size, 3), np.uint8)
    ready = time.monotonic()
    return Decoded(pixels, ready - decoding.submitted, 0.0, ready, pixels.shape[1::-1])


def main() -> None:
    """Run the command line with the stand-ins in their places."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--image-ms", type=float, required=True)
    own, command = parser.parse_known_args()

    def create_engine(checkpoint: Checkpoint, **_: Any) -> StandInEngine:
        return StandInEngine(checkpoint, streams=own.streams, image_ms=own.image_ms)

    with (
        patch("app.inference.engines.load_engine", create_engine),
        patch.object(DecodeThreads, "_decode", skip_decoding),
    ):
        app(command)


if __name__ == "__main__":
    main()
