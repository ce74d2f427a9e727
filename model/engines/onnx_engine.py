"""ONNX Runtime: the default engine on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime

from model.config import MIN_IMAGE_SIDE
from model.engines import onnx_graph, quantized_graph
from model.engines.base import POOLED, EngineOutput
from model.engines.onnx_graph import LOGITS, PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.checkpoint import Checkpoint

_WARNING = 3


class OnnxEngine:
    """Two sessions over one graph: all threads for a batch that is alone, else one thread each.

    Raises:
        UnsupportedModelError: the checkpoint's `hidden_act` has no nodes.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        self.checkpoint = checkpoint
        self.streams = threads
        graph = quantized_graph if checkpoint.quantization else onnx_graph
        self._outputs = [LOGITS, POOLED] if checkpoint.config.num_labels else [POOLED]
        model = graph.create_graph(checkpoint, self._outputs).SerializeToString()
        self._single = _create_session(model, 1)
        self._whole = self._single if threads == 1 else _create_session(model, threads)

    def run(self, pixels: NDArray[np.uint8], *, alone: bool = True) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        if min(pixels.shape[1:3]) < MIN_IMAGE_SIDE:
            raise ValueError(f"images must be at least {MIN_IMAGE_SIDE} pixels wide and high")
        session = self._whole if alone else self._single
        *logits, pooled = session.run(self._outputs, {PIXELS: pixels})
        return EngineOutput(logits[0] if logits else pooled[:, :0], {POOLED: pooled})


def _create_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _WARNING
    # Threads that spin at a barrier take the core that decoding the next image needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
