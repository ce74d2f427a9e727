"""ONNX Runtime: the default engine on a CPU."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

import onnxruntime

from model.config import END_POINTS, MIN_IMAGE_SIDE, OUTPUT_STRIDES
from model.engines import onnx_graph, quantized_graph
from model.engines.base import EngineOutput, deepest_layer, default_outputs
from model.engines.onnx_graph import PIXELS

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    from model.checkpoint import Checkpoint

_WARNING = 3
_MAX_VARIANTS = 4
"""Graphs kept besides the default one; each costs 26 to 56 MB, and 13 to 58 ms to build anew."""

_Variant = tuple[int, str | None]
"""Output stride, and the deepest layer's end point; None is the whole network with all maps."""

_USUAL_PIXELS, _KEPT_IMAGES = 224 * 224, 8
"""Larger images are rare. What a session needs for a batch of more than so many usual ones' pixels
would stay for ever, so it is given back, and one such batch runs at a time, with all threads:
measured, 170 MB each.
"""


class OnnxEngine:
    """Two sessions over one graph: all threads for a batch that is alone, else one thread each.

    ONNX Runtime runs every node of a graph, whatever is asked of it, so that there is one graph for
    the default outputs, and one for each other depth and output stride, built on first use.

    Raises:
        UnsupportedModelError: the checkpoint's `hidden_act` has no nodes.
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
        self._graph = quantized_graph if checkpoint.quantization else onnx_graph
        self._default = self._create_sessions(self._default_outputs)
        self._variants: OrderedDict[_Variant, _Sessions] = OrderedDict()
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
        if min(pixels.shape[1:3]) < MIN_IMAGE_SIDE:
            raise ValueError(f"images must be at least {MIN_IMAGE_SIDE} pixels wide and high")
        names = list(outputs or self._default_outputs)
        sessions = self._sessions(names, output_stride)
        work = math.prod(pixels.shape[1:3]) * (OUTPUT_STRIDES[0] // output_stride) ** 2
        if work > _USUAL_PIXELS and work * len(pixels) > _KEPT_IMAGES * _USUAL_PIXELS:
            with self._large:
                arrays = sessions.whole.run(names, {PIXELS: pixels}, self._shrinking)
        else:
            session = sessions.whole if alone else sessions.single
            arrays = session.run(names, {PIXELS: pixels})
        return EngineOutput(dict(zip(names, arrays, strict=True)))

    def _sessions(self, outputs: Collection[str], output_stride: int) -> _Sessions:
        if output_stride == OUTPUT_STRIDES[0] and set(outputs) <= set(self._default_outputs):
            return self._default
        variant = output_stride, deepest_layer(outputs)
        with self._building:
            if variant not in self._variants:
                self._variants[variant] = self._create_variant(*variant)
            self._variants.move_to_end(variant)
            while len(self._variants) > _MAX_VARIANTS:
                self._variants.popitem(last=False)
            return self._variants[variant]

    def _create_variant(self, output_stride: int, deepest: str | None) -> _Sessions:
        names: tuple[str, ...] = END_POINTS
        if deepest is None:
            names += self._default_outputs
        else:
            names = names[: names.index(deepest) + 1]
        return self._create_sessions(names, output_stride)

    def _create_sessions(self, outputs: tuple[str, ...], output_stride: int = 32) -> _Sessions:
        graph = self._graph.create_graph(self.checkpoint, outputs, output_stride)
        return _Sessions(graph, self._threads)


class _Sessions:
    """One graph with one thread, and with all."""

    def __init__(self, graph: ModelProto, threads: int) -> None:
        model = graph.SerializeToString()
        self.single = _create_session(model, 1)
        self.whole = self.single if threads == 1 else _create_session(model, threads)


def _create_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _WARNING
    # Threads that spin at a barrier take the core that decoding the next image needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _share_memory() -> None:
    """Let all sessions of this process take their memory from one arena.

    Each else keeps the most that it ever needed: measured with three graphs in use, 565 MiB of the
    process against 311.
    """
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(cpu, None)
