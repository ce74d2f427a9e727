"""How many requests a second one process carries when engine and decoding cost it nothing.

`bench.stand_in` sleeps in their place. The load generator has a core of its own; connections are
doubled until the rate no longer rises.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.documents import write_section
from bench.in_process import InProcess
from bench.load import Kind, LoadGenerator
from bench.server import ServerProcess

_BODY_BYTES = 107_000
_CONNECTIONS = (32, 64, 128, 256, 512)
_RISE = 1.02
"""Twice the connections must bring so much more; else the search ends."""
_HOST_CORES = 64


@dataclass(frozen=True)
class Hardware:
    """What the stand-in engine sleeps like; milliseconds as in `StandInEngine`."""

    name: str
    streams: int
    batch_ms: float
    image_ms: float
    max_batch_size: int


_GPU = Hardware("GPU", streams=1, batch_ms=2.0, image_ms=0.1, max_batch_size=64)
"""An assumption, not a measurement: a batch of 64 in 8.4 ms, 7,600 images a second."""


@dataclass(frozen=True)
class Rate:
    """The largest rate found, and what the server's process used for it, in cores."""

    connections: int
    images_per_s: float
    busy: float
    loop_busy: float
    p50_ms: float


@dataclass
class Server:
    """One line of the table: a server and the load on it.

    Attributes:
        decode_ms: how long decoding sleeps; None decodes in earnest.
        one_core: whether the server is bound to one core, which the load generator leaves alone.
        rates: one a round.
    """

    hardware: Hardware
    decode_ms: float | None
    kind: Kind
    one_core: bool
    rates: list[Rate] = field(default_factory=list)

    @property
    def rate(self) -> Rate:
        """The median one; the lower of two."""
        ordered = sorted(self.rates, key=lambda rate: rate.images_per_s)
        return ordered[(len(ordered) - 1) // 2]

    def line(self) -> str:
        """In Markdown."""
        rate = self.rate
        cpu_ms, loop_ms = (1000 * busy / rate.images_per_s for busy in (rate.busy, rate.loop_busy))
        return (
            f"| {self.hardware.name} | {'real' if self.decode_ms is None else 'asleep'} "
            f"| {self.kind} | {'one' if self.one_core else 'all'} "
            f"| {rate.connections} | {rate.images_per_s:.0f} "
            f"| {rate.busy:.2f} | {cpu_ms:.2f} | {loop_ms:.2f} | {rate.p50_ms:.0f} |"
        )


class ProcessLimit:
    """One run's figures."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.core_images_per_s = 0.0
        self.image_ms = 0.0
        self.decode_ms = 0.0

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Time a core's decoding and engine, and then what one process carries."""
        # What follows a JPEG's end is not read, but it is sent.
        photos = [photo.ljust(_BODY_BYTES, b"\0") for photo in photos]
        self._measure_core(photos, seconds)
        host = Hardware(f"{_HOST_CORES} cores", _HOST_CORES, 0.0, self.image_ms, max_batch_size=8)
        self.servers = [
            Server(hardware, self.decode_ms, kind, one_core)
            for hardware in (host, _GPU)
            for kind in ("multipart", "raw")
            for one_core in (True, False)
        ]
        self.servers.append(Server(host, None, "multipart", one_core=True))
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            sys.exit("two cores are needed: one for the server, one for the load")
        with ExitStack() as stack:
            generator = stack.enter_context(LoadGenerator(photos))
            processes = []
            for server in self.servers:
                with _bound_to(cores[:1] if server.one_core else cores):
                    processes.append(stack.enter_context(_create_process(server)))
            stack.enter_context(_bound_to(cores[1:]))
            for _ in range(rounds):
                for server, process in zip(self.servers, processes, strict=True):
                    server.rates.append(_find_rate(generator, process, server.kind, seconds))

    def write(self) -> None:
        """Replace the table of docs/performance.md."""
        lowest = min(server.rate.images_per_s for server in self.servers if server.decode_ms)
        cores = lowest / self.core_images_per_s
        header = (
            "| engine of | decoding | body | server's cores | connections | requests/s "
            "| cores busy | CPU ms a request | of it event loop | p50 ms |\n"
            "|---|---|---|---|--:|--:|--:|--:|--:|--:|"
        )
        rule = (
            f"On one of these cores, in process, a photo takes {self.decode_ms:.1f} ms to "
            f"decode and {self.image_ms:.1f} ms to compute: {self.core_images_per_s:.0f} "
            f"images/s with both. The lowest rate with decoding asleep is "
            f"{lowest:.0f} requests/s. **So one process feeds "
            f"{cores:.0f} cores like these; beyond that, start another replica.**"
        )
        text = "\n".join([header, *(server.line() for server in self.servers), "", rule])
        print(text)
        write_section("performance.md", "process", text)

    def _measure_core(self, photos: list[bytes], seconds: float) -> None:
        in_process = InProcess()
        cores = in_process.threads
        self.core_images_per_s = in_process.images_per_s(photos, seconds) / cores
        self.image_ms = 1000 * cores / in_process.computed_per_s(photos, seconds)
        self.decode_ms = 1000 * cores / in_process.decoded_per_s(photos, seconds)


def _find_rate(
    generator: LoadGenerator, process: ServerProcess, kind: Kind, seconds: float
) -> Rate:
    best = Rate(0, 0.0, 0.0, 0.0, 0.0)
    for connections in _CONNECTIONS:
        rate = _measure_rate(generator, process, kind, connections, seconds)
        rises = rate.images_per_s > _RISE * best.images_per_s
        best = max(best, rate, key=lambda one: one.images_per_s)
        if not rises:
            break
    return best


def _measure_rate(
    generator: LoadGenerator, process: ServerProcess, kind: Kind, connections: int, seconds: float
) -> Rate:
    cpu_s, loop_s = process.cpu_s, process.loop_cpu_s
    load = generator.run(process.url, kind, connections, seconds)
    cpu_s, loop_s = process.cpu_s - cpu_s, process.loop_cpu_s - loop_s
    if load.broken or load.refused_per_s:
        sys.exit(f"{load.broken} requests broke, {load.refused_per_s:.0f}/s were refused")
    return Rate(
        connections, load.images_per_s, cpu_s / load.seconds, loop_s / load.seconds, load.p50_ms
    )


def _create_process(server: Server) -> ServerProcess:
    hardware = server.hardware
    program = [
        "-m",
        "bench.stand_in",
        f"--streams={hardware.streams}",
        f"--batch-ms={hardware.batch_ms}",
        f"--image-ms={hardware.image_ms}",
    ]
    if server.decode_ms is not None:
        program.append(f"--decode-ms={server.decode_ms}")
    return ServerProcess(
        program=program, threads=_HOST_CORES, max_batch_size=hardware.max_batch_size
    )


@contextmanager
def _bound_to(cores: Iterable[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
