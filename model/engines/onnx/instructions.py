"""Tells whether this CPU adds products of 8-bit numbers exactly in one instruction."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_EXACT = {"avx512_vnni", "avx_vnni", "asimddp"}
"""As Linux names them: VNNI of x86, the dot product of Arm."""


@cache
def has_dot_product(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether a signed kernel's products are summed exactly, and therefore fast.

    Without it, ONNX Runtime multiplies unsigned by signed bytes with AVX2's `vpmaddubsw`, whose
    sums of two products saturate at 16 bits.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"  # every one of Apple's has it
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":") for line in lines)
    return any(
        _EXACT & set(values.split())
        for name, _, values in flags
        if name.strip() in {"flags", "Features"}
    )
