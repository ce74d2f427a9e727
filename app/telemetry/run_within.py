"""Bounds the wait for work that may hang."""

import threading
from collections.abc import Callable


def run_within(seconds: float, work: Callable[[], object]) -> None:
    """Run work in a daemon thread, and wait for its end for so many seconds at most."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
