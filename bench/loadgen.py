"""Drives the service with MLCommons LoadGen; run it with `make bench WHAT=loadgen`.

SingleStream, Offline and Server (Poisson arrivals, p99 at most 100 ms), JPEG over HTTP/1.1 on
connections that stay open. Every body is one of its own, so that nothing is cached or shared. What
LoadGen's own log calls INVALID, or a run with an answer other than 200, does not count. The bound
for Server is the highest rate of an ideal queue, simulated with the times that photos take in
process. Measured with MLCommons LoadGen, not an MLPerf result: rules of the round, such as the data
set and ten minutes a run, are not kept. Writes a section of docs/performance.md.
"""

from __future__ import annotations

import heapq
import itertools
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from queue import SimpleQueue

import mlperf_loadgen as loadgen
import numpy as np

from bench.arguments import create_parser
from bench.documents import markdown_table, write_section
from bench.in_process import InProcess
from rig.photos import load_photos
from rig.server import ServerProcess

_BOUND_MS = 100.0
_CONNECTIONS = {"SingleStream": 1, "Offline": 16, "Server": 64}
_FEWEST_QUERIES = {"SingleStream": 100, "Offline": 100, "Server": 700}
"""Of fewer arrivals LoadGen calls no 99th percentile VALID, however early all answers come."""
_HALVINGS = 5
_SIMULATED = 50_000


@dataclass(frozen=True)
class Result:
    """One run, by LoadGen's summary.

    Attributes:
        valid: LoadGen says so, and every answer was a 200.
        p50_ms: median latency, from the arrival to the answer.
        p99_ms: their 99th percentile.
        rate: samples a second that were answered.
    """

    valid: bool
    p50_ms: float
    p99_ms: float
    rate: float


class Client:
    """LoadGen's system under test: threads that each send one query at a time on a connection."""

    def __init__(self, url: str, photos: Sequence[bytes], connections: int) -> None:
        self._host, self._photos = url.removeprefix("http://"), photos
        self._queries: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._number = itertools.count()
        self.failed = 0
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def issue(self, queries: Sequence[loadgen.QuerySample]) -> None:
        """Queue LoadGen's queries."""
        for query in queries:
            self._queries.put((query.id, query.index))

    def close(self) -> None:
        """End the threads once all is sent."""
        for _ in self._threads:
            self._queries.put(None)
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        connection = HTTPConnection(self._host)
        while query := self._queries.get():
            number, index = query
            # What follows a JPEG's end is read by no decoder.
            body = self._photos[index] + next(self._number).to_bytes(8, "big")
            try:
                connection.request("POST", "/classify", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                self.failed += answer.status != HTTPStatus.OK
            except (OSError, HTTPException):  # LoadGen would wait for its answer for ever
                self.failed += 1
                connection.close()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(number, 0, 0)])
        connection.close()


def run(url: str, photos: Sequence[bytes], scenario: str, seconds: float, rate: float) -> Result:
    """Run one scenario for so many seconds; Offline sends what takes as long at a rate."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = _FEWEST_QUERIES[scenario]
    settings.offline_expected_qps = rate
    settings.server_target_qps = rate
    settings.server_target_latency_ns = int(1e6 * _BOUND_MS)
    settings.server_target_latency_percentile = 0.99
    client = Client(url, photos, _CONNECTIONS[scenario])
    try:
        with _system(client) as system, _samples(len(photos)) as samples:
            summary = _start(system, samples, settings)
    finally:
        client.close()
    return _parse(summary, valid=not client.failed)


@contextmanager
def _system(client: Client) -> Iterator[int]:
    system = loadgen.ConstructSUT(client.issue, lambda: None)
    yield system
    loadgen.DestroySUT(system)


@contextmanager
def _samples(count: int) -> Iterator[int]:
    samples = loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    yield samples
    loadgen.DestroyQSL(samples)


def _start(system: int, samples: int, settings: loadgen.TestSettings) -> str:
    with tempfile.TemporaryDirectory() as folder:
        logs = loadgen.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        loadgen.StartTestWithLogSettings(system, samples, settings, logs)
        return Path(folder, "mlperf_log_summary.txt").read_text(encoding="utf-8")


def _parse(summary: str, *, valid: bool) -> Result:
    def read(pattern: str) -> float:
        (found,) = re.findall(rf"^{pattern}\s*: (\S+)", summary, re.MULTILINE)[:1] or ["nan"]
        return float(found)

    p50_ms, p99_ms = (
        read(rf"{name} percentile latency \(ns\)") / 1e6 for name in ("50.00", "99.00")
    )
    rates = r"(?:Samples per second|Completed samples per second|QPS w/ loadgen overhead)"
    return Result(valid and "Result is : VALID" in summary, p50_ms, p99_ms, read(rates))


def ideal_p99_ms(times: Sequence[float], rate: float, cores: int) -> float:
    """Simulate a queue without any cost of its own: first come, first served by the free core.

    Args:
        times: what photos take on a core, in seconds, while the others work too.
        rate: of the Poisson arrivals, a second.
        cores: how many photos are worked on at once.
    """
    chance = np.random.default_rng(0)
    arrivals = np.cumsum(chance.exponential(1 / rate, _SIMULATED))
    free = [0.0] * cores
    waits = []
    for arrival, taken in zip(arrivals, chance.choice(times, _SIMULATED), strict=True):
        end = max(arrival, heapq.heappop(free)) + taken
        heapq.heappush(free, end)
        waits.append(end - arrival)
    return 1000 * float(np.percentile(waits, 99))


def ideal_rate(times: Sequence[float], cores: int) -> float:
    """Return the highest rate at which the ideal queue keeps the bound."""
    low, high = 0.0, cores / float(np.mean(times))
    for _ in range(20):
        middle = (low + high) / 2
        kept = ideal_p99_ms(times, middle, cores) <= _BOUND_MS
        low, high = (middle, high) if kept else (low, middle)
    return low


def measure_times(in_process: InProcess, photos: Sequence[bytes], seconds: float) -> list[float]:
    """Return what photos take in process on one core, in seconds, while all cores work."""
    end = time.perf_counter() + seconds

    def work(number: int) -> list[float]:
        times = []
        for photo in itertools.islice(itertools.cycle(photos), number, None, in_process.threads):
            started = time.perf_counter()
            if started > end:
                break
            in_process.classify(photo, alone=False)
            times.append(time.perf_counter() - started)
        return times

    with ThreadPoolExecutor(in_process.threads) as pool:
        return list(itertools.chain(*pool.map(work, range(in_process.threads))))


def find_rate(url: str, photos: Sequence[bytes], seconds: float, most: float) -> float:
    """Return the highest Poisson rate of a VALID run, to 3 % of `most`."""
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        result = run(url, photos, "Server", seconds, middle)
        print(f"Server at {middle:.0f}/s: p99 {result.p99_ms:.0f} ms, valid: {result.valid}")
        low, high = (middle, high) if result.valid else (low, middle)
    return low


def main() -> None:
    """Measure, print and write."""
    arguments = create_parser(__doc__, rounds=1, seconds=15).parse_args()
    photos, seconds = load_photos(arguments.photos), arguments.seconds
    in_process = InProcess()
    times = measure_times(in_process, photos, seconds)
    cores, limit = in_process.threads, in_process.threads / float(np.mean(times))
    most = ideal_rate(times, cores)
    with ServerProcess(jpeg_scaled_decode=False, keep_alive_s=75) as server:
        run(server.url, photos, "SingleStream", 1, 0)
        single = run(server.url, photos, "SingleStream", seconds, 0)
        single_ms = in_process.single_ms(photos, seconds)
        offline = run(server.url, photos, "Offline", seconds, limit)
        rows = []
        for share in (0.15, 0.4, 0.65):
            result = run(server.url, photos, "Server", seconds, share * limit)
            ideal = ideal_p99_ms(times, share * limit, cores)
            rows.append((f"{share * limit:.0f}", f"{result.p99_ms:.0f}", f"{ideal:.0f}"))
        rate = find_rate(server.url, photos, seconds, most)
    text = (
        f"SingleStream: p50 {single.p50_ms:.1f} ms, {single.p50_ms / single_ms:.2f} of in process "
        f"with all threads (valid: {single.valid}). Offline: {offline.rate:.0f} images/s, "
        f"{offline.rate / limit:.2f} of in process (valid: {offline.valid}). Server: p99 stays "
        f"below {_BOUND_MS:.0f} ms up to {rate:.0f} Poisson arrivals a second, {rate / most:.2f} "
        f"of the {most:.0f} that an ideal queue of {cores} cores at the in-process rate would take."
    )
    columns = "arrivals a second", "p99 ms", "ideal queue's p99 ms"
    text = f"{text}\n\n{markdown_table(columns, rows)}"
    print(text)
    write_section("performance.md", "loadgen", text)


if __name__ == "__main__":
    main()
