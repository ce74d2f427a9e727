"""Batches of every size, in turn: `python -m tests.reliability.cycles COUNT` prints the growth.

That is how much memory the process gained in the second half, in MiB for a thousand batches.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine

MAX_BATCH_SIZE = 8
"""The most that a CPU chooses."""
_SIDE = 64
"""In pixels; the size of the image is not what is tested."""


def growth(held_mib: NDArray[np.float64], thousands: float) -> float:
    """What the second half of a row of measurements gained a thousand, by least squares.

    Args:
        held_mib: (n,), memory in MiB, at equal distances.
        thousands: of what was done from one to the next.
    """
    second = held_mib[len(held_mib) // 2 :]
    return float(np.polyfit(np.arange(len(second)) * thousands, second, 1)[0])


def held_mib() -> float:
    """Memory that this process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(count: int) -> None:
    """Run so many batches."""
    engine = load_engine(load_checkpoint(DEFAULT_DIRECTORY), name="onnx", threads=2)
    pixels = np.random.default_rng(1).integers(
        0, 256, (MAX_BATCH_SIZE, _SIDE, _SIDE, 3), dtype=np.uint8
    )
    measured, step = [], count // 40
    for number in range(count):
        size = number % MAX_BATCH_SIZE + 1
        engine.run(pixels[:size], alone=number % 2 == 0)
        if number % step == 0:
            measured.append(held_mib())
    sys.stdout.write(f"{growth(np.array(measured), step / 1000)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
