"""Measures the CPU time of a request besides decoding and the engine, and of a refusal.

Engine and decoding are replaced by stand-ins that take no time.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from rig.load import KINDS, LoadGenerator
from rig.server import ServerProcess

_CONNECTIONS = 8
_MANY_CONNECTIONS = 64
_NO_WORK = ("-m", "rig.stand_in", "--streams=2", "--image-ms=0")
_BUSY = ("-m", "rig.stand_in", "--streams=1", "--image-ms=400")
"""One image in 400 ms: nearly all requests find no room."""


def measure_overhead(generator: LoadGenerator, rounds: int, seconds: float) -> dict[str, float]:
    """Return CPU milliseconds a request: of each kind of body, and of one that is refused."""
    costs: dict[str, list[float]] = defaultdict(list)
    with (
        ServerProcess(program=_NO_WORK, queue_ms=60_000) as idle,
        ServerProcess(program=_BUSY, queue_ms=1, max_batch_size=1) as busy,
    ):
        for _ in range(rounds):
            for kind in KINDS:
                before = idle.cpu_s
                load = generator.run(idle.url, kind, _CONNECTIONS, seconds)
                costs[kind].append(1000 * (idle.cpu_s - before) / load.requests)
            before = busy.cpu_s
            load = generator.run(busy.url, "multipart", _MANY_CONNECTIONS, seconds)
            costs["refused"].append(1000 * (busy.cpu_s - before) / load.refused)
    return {name: statistics.median(values) for name, values in costs.items()}
