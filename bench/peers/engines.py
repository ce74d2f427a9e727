"""Holds the two engines that every peer is measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from bench.peers.peer import EngineName
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.model import create_model
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.network.config import LOGITS
from model.network.scores import softmax, top_k

_TOP_K = 5


Answer = dict[str, str | float]
"""One class that a photo shows: its `label` and its `score`."""


class PeerEngine(Protocol):
    """The two steps of labelling: one photo each, then a batch."""

    def preprocess(self, photo: bytes) -> NDArray[Any]:
        """Decode a photo into the network's input."""
        ...

    def classify(self, batch: Sequence[NDArray[Any]]) -> list[list[Answer]]:
        """Return the five best classes of each."""
        ...


def create_engine(name: EngineName, threads: int | None) -> PeerEngine:
    """Load the packaged checkpoint, and compute one batch with it.

    Args:
        name: of the engine.
        threads: that compute one batch; None for the engine's own default.
    """
    engine: PeerEngine = OnnxPeerEngine(threads) if name == "onnx" else TransformersEngine(threads)
    photo = BytesIO()
    Image.new("RGB", (320, 240)).save(photo, "JPEG")
    engine.classify([engine.preprocess(photo.getvalue())])
    return engine


class OnnxPeerEngine:
    """The parts that the service itself is made of."""

    def __init__(self, threads: int | None) -> None:
        self._checkpoint = load_checkpoint(DEFAULT_DIRECTORY)
        if threads is None:
            self._run = self._create_default_session()
        else:
            engine = load_engine(self._checkpoint, name="onnx", threads=threads)
            self._run = lambda pixels: engine.run(pixels).logits
        self._decoder = Decoder(DecodeLimits())

    def preprocess(self, photo: bytes) -> NDArray[np.uint8]:
        """Return pixels of shape (224, 224, 3)."""
        return preprocess(self._decoder.decode(photo), self._checkpoint.preprocessing)

    def classify(self, batch: Sequence[NDArray[np.uint8]]) -> list[list[Answer]]:
        """Run ONNX Runtime."""
        labels = self._checkpoint.labels
        return [
            [{"label": labels[id_].label, "score": score} for id_, score in top_k(row, _TOP_K)]
            for row in softmax(self._run(np.stack(batch)))
        ]

    def _create_default_session(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Run the same graph as the documentation of ONNX Runtime does."""
        graph = create_model(self._checkpoint).SerializeToString()
        session = onnxruntime.InferenceSession(graph)

        def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            (logits,) = session.run([LOGITS], {PIXELS: pixels})
            return np.asarray(logits)

        return run


class TransformersEngine:
    """What the documentation of transformers shows for image classification."""

    def __init__(self, threads: int | None) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._processor = AutoImageProcessor.from_pretrained(DEFAULT_DIRECTORY)  # type: ignore[no-untyped-call]  # transformers' own gap
        self._model = AutoModelForImageClassification.from_pretrained(DEFAULT_DIRECTORY)

    def preprocess(self, photo: bytes) -> NDArray[np.float32]:
        """Return values of shape (3, 224, 224)."""
        image = Image.open(BytesIO(photo)).convert("RGB")
        values: NDArray[np.float32] = self._processor(image, return_tensors="np").pixel_values[0]
        return values

    def classify(self, batch: Sequence[NDArray[np.float32]]) -> list[list[Answer]]:
        """Run PyTorch."""
        torch, labels = self._torch, self._model.config.id2label
        with torch.inference_mode():
            logits = self._model(torch.from_numpy(np.stack(batch))).logits
            scores, ids = logits.softmax(-1).topk(_TOP_K)
        return [
            [{"label": labels[id_], "score": score} for id_, score in zip(*row, strict=True)]
            for row in zip(ids.tolist(), scores.tolist(), strict=True)
        ]
