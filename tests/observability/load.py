"""Clients that ask in threads until they are told to stop."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx2


@contextmanager
def repeat(action: Callable[[int], object], threads: int = 1) -> Iterator[None]:
    """Call something again and again, with a number that grows, while inside."""
    stop = threading.Event()
    numbers = itertools.count()

    def run() -> None:
        while not stop.is_set():
            with suppress(httpx2.TransportError):  # the other end may be down on purpose
                action(next(numbers))

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()
