"""How long the tests here go on: a load lasts a minute, or as `--load-seconds` says.

Counts are shortened with it, so that a short form of all of them takes minutes.
"""

from __future__ import annotations

import os

_USUAL_S = 60.0

LOAD_S = float(os.environ.get("LOAD_SECONDS", _USUAL_S))
"""How long each load lasts, in seconds; a few are enough to try."""

TOLERANCE = 0.0 if LOAD_S >= _USUAL_S else 0.1
"""What a share of goodput may miss: that of a few seconds varies by so much."""


def shortened(count: int, least: int = 1) -> int:
    """So many, or the share of them that loads have of their usual length, but at least so many."""
    return max(least, round(count * min(1.0, LOAD_S / _USUAL_S)))
