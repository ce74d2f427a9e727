"""ONNX Runtime's sessions, and the memory that they share."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import onnxruntime
from google.protobuf.message import EncodeError

from model.engines.onnx.instructions import has_dot_product
from model.engines.onnx.model import create_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.checkpoints.checkpoint import Checkpoint

_FATAL = 4
"""Log nothing less: what fails is raised, and logged by whoever catches it."""
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""In the texts of ONNX Runtime's errors, which have no type of their own for it."""


class Sessions:
    """Sessions of one graph, with all threads and with one, each built on first use."""

    def __init__(
        self, checkpoint: Checkpoint, threads: int, outputs: tuple[str, ...], output_stride: int
    ) -> None:
        self._checkpoint, self._threads = checkpoint, threads
        self._outputs, self._output_stride = outputs, output_stride
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._building = threading.Lock()

    def build(self) -> None:
        """Build both, of a graph that is written once."""
        model = self._write()
        with self._building:
            for threads in {self._threads, 1}:
                self._sessions[threads] = _create(model, threads)

    def get(self, *, alone: bool) -> onnxruntime.InferenceSession:
        """The session with all threads if the batch runs alone, else the one with one thread."""
        threads = self._threads if alone else 1
        with self._building:
            if threads not in self._sessions:
                self._sessions[threads] = _create(self._write(), threads)
            return self._sessions[threads]

    def _write(self) -> bytes:
        model = create_model(
            self._checkpoint,
            self._outputs,
            self._output_stride,
            signed_kernels=has_dot_product(),
        )
        serialized: bytes = model.SerializeToString()
        return serialized


def _create(model: bytes, threads: int) -> onnxruntime.InferenceSession:
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
def memory_errors() -> Iterator[None]:
    """Raise MemoryError when ONNX Runtime or protobuf cannot allocate memory."""
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

    With arenas of their own, each keeps the most that it ever needed: measured with three graphs in
    use, 565 MiB of the process instead of 311.
    """
    arena, default = (
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        onnxruntime.OrtMemType.DEFAULT,
    )
    cpu = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, default)
    onnxruntime.create_and_register_allocator(cpu, None)
