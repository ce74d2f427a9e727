"""Tunes how memory is kept and collected where threads free images of 100 MB.

What concerns glibc does nothing under another C library; see malloc_trim(3) and mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
"""More of them would each keep what one large image left behind: measured, 370 MiB."""

_MAPPED_BYTES = 4 * 1024 * 1024
"""glibc raises its own threshold to the largest block that was freed, and holes of that size stay:
measured, 40 MiB after bodies of 10 MiB. Smaller blocks, most images' pixels, stay where they are.
"""
_KEPT_BYTES = 2 * 1024 * 1024
"""Free memory at an arena's end. With a threshold of our own, glibc would keep 128 KiB of it, and
take each image's pixels from the system anew: measured, 2 % of the images a second.
"""


def tune_malloc() -> None:
    """Let threads share few arenas, and large blocks go back to the system once they are freed.

    Call before any thread starts and any large block is allocated.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim() -> None:
    """Give freed memory back, also below blocks in use: after loading, a fifth of the process."""
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)


def freeze() -> None:
    """Exclude all objects that exist now from garbage collection; call once all is loaded.

    Otherwise each full collection walks every object of the frameworks: 0.1 s in which the event
    loop stands still, and a tenth of the work under load.
    """
    gc.collect()
    gc.freeze()
