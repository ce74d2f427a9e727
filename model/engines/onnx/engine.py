"""The ONNX Runtime engine, the default on a CPU."""

from __future__ import annotations

import math
import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import onnxruntime

from model.engines.base import EngineOutput, check_request, deepest_layer, default_outputs
from model.engines.onnx.graph import PIXELS
from model.engines.onnx.sessions import Sessions, memory_errors
from model.network.config import END_POINTS, OUTPUT_STRIDES

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

_MAX_GRAPHS = 4
"""Graphs kept besides the default one; each costs 26 to 56 MB, and 13 to 58 ms to build anew."""

_USUAL_PIXELS, _KEPT_IMAGES = 224 * 224, 8
"""A session keeps the memory of its largest batch, so a batch of more pixels than so many usual
images runs alone, with all threads, and its memory, a measured 170 MB, is given back.
"""


class OnnxEngine:
    """Two sessions over one graph: all threads for a batch that runs alone, else one thread each.

    ONNX Runtime runs every node of a graph, whatever is asked of it, and keeps all its outputs to
    the end. So there is one graph for the default outputs, and one for each other output stride and
    each depth to which maps are wanted, built on first use.

    Raises:
        UnsupportedModelError: the checkpoint's `hidden_act` is not known.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        self.checkpoint = checkpoint
        self.streams = threads
        self._large = threading.Lock()
        self._choosing = threading.Lock()
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._default_outputs = default_outputs(checkpoint.config)
        self._default = Sessions(checkpoint, threads, self._default_outputs, OUTPUT_STRIDES[0])
        self._default.build()
        self._others = lru_cache(_MAX_GRAPHS)(partial(Sessions, checkpoint, threads))

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        check_request(pixels.shape[1:3], outputs)
        names, feed = list(outputs or self._default_outputs), {PIXELS: pixels}
        sessions = self._sessions(names, output_stride)
        work = math.prod(pixels.shape[1:3]) * (OUTPUT_STRIDES[0] // output_stride) ** 2
        with memory_errors():
            if work > _USUAL_PIXELS and work * len(pixels) > _KEPT_IMAGES * _USUAL_PIXELS:
                with self._large:
                    arrays = sessions.get(alone=True).run(names, feed, self._shrinking)
            else:
                arrays = sessions.get(alone=alone).run(names, feed)
        return EngineOutput(dict(zip(names, arrays, strict=True)))

    def _sessions(self, outputs: Collection[str], output_stride: int) -> Sessions:
        """Those of the graph with the default outputs, or with all maps down to the deepest."""
        deepest = deepest_layer(outputs)
        if set(outputs) <= set(self._default_outputs):
            if output_stride == OUTPUT_STRIDES[0]:
                return self._default
            served = self._default_outputs
        elif deepest is None:
            served = END_POINTS + self._default_outputs
        else:
            served = END_POINTS[: END_POINTS.index(deepest) + 1]
        with self._choosing:  # two streams must not each build the same graph
            return self._others(served, output_stride)
