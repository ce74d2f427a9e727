"""How long the tests here go on: a load lasts a minute, or as `--load-seconds` says.

Counts are shortened with it, so that a short form of all of them takes minutes.
"""

from __future__ import annotations

import os

_USUAL_S = 60.0

LOAD_S = float(os.environ.get("LOAD_SECONDS", _USUAL_S))
"""How long each load lasts, in seconds; a few are enough to try."""

_SHORT = LOAD_S < _USUAL_S

TOLERANCE = 0.1 if _SHORT else 0.0
"""What goodput may miss, as a share, and p99 twice: those of a few seconds vary by so much."""

COARSE = 8 if _SHORT else 1
"""How many times as large a growth of memory must be to be seen: at first a heap fills in steps."""


def shortened(count: int, least: int = 1) -> int:
    """So many, or the share of them that loads have of their usual length, but at least so many."""
    return max(least, round(count * min(1.0, LOAD_S / _USUAL_S)))
