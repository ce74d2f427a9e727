"""The ONNX Runtime engine, the default on a CPU."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from model.engines.base import EngineOutput, check_request, deepest_layer, default_outputs
from model.engines.onnx import graph as float_graph
from model.engines.onnx import quantized_graph
from model.engines.onnx.model import PIXELS
from model.engines.onnx.sessions import Sessions, memory_errors
from model.network.config import END_POINTS, MIN_IMAGE_SIDE, OUTPUT_STRIDES

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from model.checkpoints.checkpoint import Checkpoint

_MAX_VARIANTS = 4
"""Graphs kept besides the default one; each costs 26 to 56 MB, and 13 to 58 ms to build anew."""

_Arrays = list["NDArray[np.float32]"]

_Variant = tuple[int, tuple[str, ...]]
"""Output stride, and the graph's outputs."""

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
        self._large = threading.Lock()
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.checkpoint = checkpoint
        self.streams = threads
        self._threads = threads
        self._default_outputs = default_outputs(checkpoint.config)
        self._graph = quantized_graph if checkpoint.quantization else float_graph
        self._default = self._create_sessions(OUTPUT_STRIDES[0], self._default_outputs)
        self._default.get(alone=True)
        self._variants: OrderedDict[_Variant, Sessions] = OrderedDict()
        self._building = threading.Lock()

    def run(
        self,
        pixels: NDArray[np.uint8],
        outputs: Collection[str] = (),
        *,
        output_stride: int = 32,
        alone: bool = True,
    ) -> EngineOutput:
        """Compute one batch; see `Engine.run`."""
        check_request(pixels, outputs)
        names = list(outputs or self._default_outputs)
        with memory_errors():
            arrays = self._run(pixels, names, output_stride, alone=alone)
        return EngineOutput(dict(zip(names, arrays, strict=True)))

    def _run(
        self, pixels: NDArray[np.uint8], names: list[str], output_stride: int, *, alone: bool
    ) -> _Arrays:
        sessions, feed = self._sessions(names, output_stride), {PIXELS: pixels}
        work = math.prod(pixels.shape[1:3]) * (OUTPUT_STRIDES[0] // output_stride) ** 2
        arrays: _Arrays
        if work > _USUAL_PIXELS and work * len(pixels) > _KEPT_IMAGES * _USUAL_PIXELS:
            with self._large:
                arrays = sessions.get(alone=True).run(names, feed, self._shrinking)
        else:
            arrays = sessions.get(alone=alone).run(names, feed)
        return arrays

    def trim(self) -> None:
        """Give back what larger batches needed; see `Engine.trim`."""
        least = np.zeros((1, MIN_IMAGE_SIDE, MIN_IMAGE_SIDE, 3), np.uint8)
        self._default.get(alone=True).run(None, {PIXELS: least}, self._shrinking)

    def _sessions(self, outputs: Collection[str], output_stride: int) -> Sessions:
        variant = output_stride, self._graph_outputs(outputs)
        if variant == (OUTPUT_STRIDES[0], self._default_outputs):
            return self._default
        with self._building:
            if variant not in self._variants:
                self._variants[variant] = self._create_sessions(*variant)
            self._variants.move_to_end(variant)
            while len(self._variants) > _MAX_VARIANTS:
                self._variants.popitem(last=False)
            return self._variants[variant]

    def _graph_outputs(self, outputs: Collection[str]) -> tuple[str, ...]:
        """All outputs of the graph that serves these: the default ones, or maps to some depth."""
        if set(outputs) <= set(self._default_outputs):
            return self._default_outputs
        deepest = deepest_layer(outputs)
        if deepest is None:
            return END_POINTS + self._default_outputs
        return END_POINTS[: END_POINTS.index(deepest) + 1]

    def _create_sessions(self, output_stride: int, outputs: tuple[str, ...]) -> Sessions:
        create = partial(self._graph.create_graph, self.checkpoint, outputs, output_stride)
        return Sessions(create, self._threads)
