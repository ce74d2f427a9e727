"""The service on hardware that is not here: its engine and its decoding sleep instead of working.

What is left is what one Python process has to do itself: HTTP, the queue, the answers.
`python -m bench.stand_in --streams=64 --image-ms=15 --decode-ms=2 serve ...` takes the place of
`python -m app serve ...`.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.cli.main import app
from app.inference.decoding import Decoded, DecodeThreads
from model.checkpoints.checkpoint import Checkpoint
from model.engines.base import EngineOutput, default_outputs
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.images.preprocessor_config import Preprocessing
from model.network.config import LOGITS

_TINY_SIDE = 32


class StandInEngine:
    """Sleeps as long as a batch would take elsewhere, without the GIL, and answers zeros.

    Args:
        checkpoint: whose answers' shapes to give.
        streams: batches that run at once.
        batch_ms: what a batch takes, however many images it has, in milliseconds.
        image_ms: what each of its images takes besides.
    """

    name = "stand-in"
    device = "cpu"

    def __init__(
        self, checkpoint: Checkpoint, *, streams: int, batch_ms: float, image_ms: float
    ) -> None:
        self.checkpoint = replace(checkpoint, digest="stand-in")  # zeros fail the real one's test
        self.streams = streams
        self._batch_s = batch_ms / 1000
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
        time.sleep(self._batch_s + len(pixels) * self._image_s)
        config = self.checkpoint.config
        return EngineOutput(
            {
                name: np.zeros(
                    (len(pixels), config.num_labels if name == LOGITS else config.num_features),
                    np.float32,
                )
                for name in outputs or default_outputs(config)
            }
        )

    def trim(self) -> None:
        """It keeps nothing; see `Engine.trim`."""


class StandInDecoding:
    """Sleeps as long as a photo takes to decode, but holds the GIL as long as decoding it does.

    The GIL is held by what Pillow and the decoder do in Python, whatever the number of pixels; so a
    picture of a few pixels is decoded in earnest, in as many bytes as the photo has. 0 ms takes no
    time at all.
    """

    def __init__(self, decode_ms: float) -> None:
        self._decode_s = decode_ms / 1000
        buffer = BytesIO()
        Image.new("RGB", (_TINY_SIDE, _TINY_SIDE)).save(buffer, "JPEG")
        self._tiny = buffer.getvalue()
        self._decoder = Decoder(DecodeLimits())

    def decode(
        self,
        image: bytes,
        preprocessing: Preprocessing,
        _side: int | None,
        submitted: float,
        _left: threading.Event,
    ) -> Decoded:
        """In the place of `DecodeThreads`' own work on one image; gives black pixels."""
        started = time.monotonic()
        pixels = np.zeros((*preprocessing.input_size, 3), np.uint8)
        if self._decode_s:
            same_length = self._tiny.ljust(len(image), b"\0")
            preprocess(self._decoder.decode(same_length), preprocessing, _TINY_SIDE)
            time.sleep(max(0.0, self._decode_s - (time.monotonic() - started)))
        return Decoded(pixels, started - submitted, time.monotonic() - started)


def main() -> None:
    """Run the command line with stand-ins in their places."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--batch-ms", type=float, default=0)
    parser.add_argument("--image-ms", type=float, required=True)
    parser.add_argument("--decode-ms", type=float, help="decodes in earnest where not given")
    own, command = parser.parse_known_args()

    def create_engine(checkpoint: Checkpoint, **_: Any) -> StandInEngine:
        return StandInEngine(
            checkpoint, streams=own.streams, batch_ms=own.batch_ms, image_ms=own.image_ms
        )

    with ExitStack() as stack:
        stack.enter_context(patch("app.inference.lifecycle.load_engine", create_engine))
        if own.decode_ms is not None:
            # A bound method stays what it is when it is found on another class.
            decode = StandInDecoding(own.decode_ms).decode
            stack.enter_context(patch.object(DecodeThreads, "_decode", decode))
        app(command)


if __name__ == "__main__":
    main()
