"""How memory is kept and collected in a process whose threads free pictures of 100 MB.

What concerns glibc does nothing under another C library; its calls are described in malloc_trim(3)
and mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
_ARENAS = 2
"""More of them would each keep what one large picture left behind: measured, 370 MiB."""


def limit_arenas() -> None:
    """Let all threads share few arenas; call it before there are threads."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Give back what is freed, also below blocks in use: after loading, a fifth of the process."""
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)


def freeze() -> None:
    """Let the garbage collector pass over all that is there now; call it when all is loaded.

    It walks every object of the frameworks else, each time that a quarter more has been made: 0.1 s
    in which the event loop stands still, and a tenth of the work under load.
    """
    gc.collect()
    gc.freeze()


def unfreeze() -> None:
    """Undo `freeze`: what was loaded may be garbage now."""
    gc.unfreeze()
