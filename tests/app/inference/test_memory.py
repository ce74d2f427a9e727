from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys
from typing import NoReturn

import pytest

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="needs glibc: run it in the image python:3.11-slim"
)


@glibc
def test_memory_freed_below_a_block_in_use_goes_back_to_the_system() -> None:
    code = """
import ctypes, pathlib
from app.inference.memory import trim

def resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

blocks = [ctypes.create_string_buffer(b"x" * 1000) for _ in range(100_000)]
last = ctypes.create_string_buffer(b"y" * 1000)
blocks.clear()
before = resident()
trim()
print(before - resident())
"""
    freed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(freed.stdout) > 50_000_000


@glibc
def test_threads_share_few_arenas() -> None:
    code = """
import ctypes, threading
from app.inference.memory import tune_malloc

tune_malloc()
gate = threading.Barrier(9)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def hold() -> None:
    libc.malloc(100)
    gate.wait()
    gate.wait()

for _ in range(8):
    threading.Thread(target=hold).start()
gate.wait()
libc.malloc_stats()
gate.wait()
"""
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert seen.stderr.count("Arena ") == 2


@glibc
def test_a_large_block_below_one_in_use_goes_back_when_it_is_freed() -> None:
    code = """
import ctypes, pathlib
from app.inference.memory import tune_malloc

def resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

tune_malloc()
ctypes.create_string_buffer(30_000_000)  # would teach glibc to keep such blocks
block = ctypes.create_string_buffer(b"x" * 10_000_000)
last = ctypes.create_string_buffer(b"y" * 1000)
before = resident()
del block
print(before - resident())
"""
    freed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(freed.stdout) > 9_000_000


class OtherLibrary:
    """A C library without glibc's own calls; it notes which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> NoReturn:
        self.asked.append(name)
        raise AttributeError(name)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.inference.memory import trim, tune_malloc

    library = OtherLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    tune_malloc()
    trim()
    assert library.asked == ["mallopt", "malloc_trim"]


def test_the_collector_passes_over_what_is_frozen_until_it_is_unfrozen() -> None:
    from app.inference.memory import freeze

    walked = len(gc.get_objects())
    freeze()
    try:
        assert len(gc.get_objects()) < walked / 10
    finally:
        gc.unfreeze()
    assert len(gc.get_objects()) > walked / 2
