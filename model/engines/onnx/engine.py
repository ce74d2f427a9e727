"""ONNX Runtime: the default engine on a CPU."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from google.protobuf.message import EncodeError

from model.engines.base import EngineOutput, check_request, deepest_layer, default_outputs
from model.engines.onnx import graph as onnx_graph
from model.engines.onnx import quantized_graph
from model.engines.onnx.graph import PIXELS
from model.network.config import END_POINTS, MIN_IMAGE_SIDE, OUTPUT_STRIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray
    from onnx import ModelProto

    from model.checkpoints.checkpoint import Checkpoint

_FATAL = 4
"""What fails is raised, and its line is ours to write."""
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""In the texts of what ONNX Runtime raises then: it has no exception of its own for it."""

_MAX_VARIANTS = 4
"""Graphs kept besides the default one; each costs 26 to 56 MB, and 13 to 58 ms to build anew."""

_Arrays = list["NDArray[np.float32]"]

_Variant = tuple[int, tuple[str, ...]]
"""Output stride, and the graph's outputs."""

_USUAL_PIXELS, _KEPT_IMAGES = 224 * 224, 8
"""Larger images are rare. What a session needs for a batch of more than so many usual ones' pixels
would stay for ever, so it is given back, and one such batch runs at a time, with all threads:
measured, 170 MB each.
"""


class OnnxEngine:
    """Two sessions over one graph: all threads for a batch that is alone, else one thread each.

    ONNX Runtime runs every node of a graph, whatever is asked of it, and keeps all its outputs to
    the end. So there is one graph for the default outputs, and one for each other output stride and
    each depth to which maps are wanted, built on first use.

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
        self._default = self._create_sessions(OUTPUT_STRIDES[0], self._default_outputs)
        self._default.get(alone=True)
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
        check_request(pixels, outputs)
        names = list(outputs or self._default_outputs)
        with _memory_errors():
            arrays = self._run(pixels, names, output_stride, alone=alone)
        return EngineOutput(dict(zip(names, arrays, strict=True)))

    def _run(
        self, pixels: NDArray[np.uint8], names: list[str], output_stride: int, *, alone: bool
    ) -> _Arrays:
        sessions = self._sessions(names, output_stride)
        work = math.prod(pixels.shape[1:3]) * (OUTPUT_STRIDES[0] // output_stride) ** 2
        if work > _USUAL_PIXELS and work * len(pixels) > _KEPT_IMAGES * _USUAL_PIXELS:
            with self._large:
                large: _Arrays = sessions.get(alone=True).run(
                    names, {PIXELS: pixels}, self._shrinking
                )
            return large
        arrays: _Arrays = sessions.get(alone=alone).run(names, {PIXELS: pixels})
        return arrays

    def trim(self) -> None:
        """Give back what larger batches needed; see `Engine.trim`."""
        least = np.zeros((1, MIN_IMAGE_SIDE, MIN_IMAGE_SIDE, 3), np.uint8)
        self._default.get(alone=True).run(None, {PIXELS: least}, self._shrinking)

    def _sessions(self, outputs: Collection[str], output_stride: int) -> _Sessions:
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
        """What a graph that gives these outputs gives: the default ones, or maps to some depth."""
        if set(outputs) <= set(self._default_outputs):
            return self._default_outputs
        deepest = deepest_layer(outputs)
        if deepest is None:
            return END_POINTS + self._default_outputs
        return END_POINTS[: END_POINTS.index(deepest) + 1]

    def _create_sessions(self, output_stride: int, outputs: tuple[str, ...]) -> _Sessions:
        create = partial(self._graph.create_graph, self.checkpoint, outputs, output_stride)
        return _Sessions(create, self._threads)


class _Sessions:
    """One graph with all threads, and with one; each is built when it is first asked for."""

    def __init__(self, create_graph: Callable[[], ModelProto], threads: int) -> None:
        self._create_graph = create_graph
        self._threads = threads
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._building = threading.Lock()

    def get(self, *, alone: bool) -> onnxruntime.InferenceSession:
        threads = self._threads if alone else 1
        with self._building:
            if threads not in self._sessions:
                model = self._create_graph().SerializeToString()
                self._sessions[threads] = _create_session(model, threads)
            return self._sessions[threads]


def _create_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Threads that spin at a barrier take the core that decoding the next image needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise MemoryError for what ONNX Runtime and protobuf raise when they get no memory."""
    try:
        yield
    except EncodeError as error:  # of a graph that is whole
        raise MemoryError("no memory for a graph") from error
    except Exception as error:
        if any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise MemoryError("no memory for a batch") from error
        raise


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
