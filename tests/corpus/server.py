"""A server in a process of its own, watched from outside."""

from __future__ import annotations

import math
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.app.server.test_uvicorn_server import Process, start
from tests.corpus.row import CAT

_IDLE = ("mobilenet_queue_depth 0.0", "mobilenet_in_flight_requests 1.0")  # the one that asks


class Watched:
    """Asks a running server, and sees that nothing is left of it afterwards."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.url = process.ready()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.client = httpx2.Client(base_url=self.url, timeout=60)
        self._golden = self._ask()

    @property
    def pid(self) -> int:
        return self._process.process.pid

    @property
    def log(self) -> list[str]:
        return self._process.lines

    def work_of(self, work: Callable[[], object], enough: float = 0.0) -> float:
        """Seconds of its processor time that some work takes, the least of up to five times.

        Args:
            work: sends something, and waits for the answer.
            enough: so little is not measured again.
        """
        least = math.inf
        for _ in range(5):
            before = self._cpu_s()
            work()
            least = min(least, self._cpu_s() - before)
            if least <= enough:
                break
        return least

    def _cpu_s(self) -> float:
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def rss_mib(self) -> float:
        """Memory that it holds, in MiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def files(self) -> int:
        """Files and sockets that it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        """Threads that it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def exchange(
        self, pieces: list[bytes], answers: int, *, closes: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        """Send pieces over one connection; the statuses and bodies of the answers to them.

        Args:
            pieces: each but the last is followed by an interim answer.
            answers: final ones.
            closes: whether the connection must be closed after the last one.
        """
        with socket.create_connection(self.address, timeout=60) as connection:
            for piece in pieces[:-1]:
                connection.sendall(piece)
                interim = connection.recv(4096)
                yield int(interim.split()[1]), b""
            connection.sendall(pieces[-1])
            file = connection.makefile("rb")
            for _ in range(answers):
                status = int(file.readline().split()[1])
                headers = dict(iter(lambda: _header(file.readline()), ("", "")))
                yield status, file.read(int(headers["content-length"]))
            assert not closes or not file.read()

    def check(self) -> None:
        """The golden answer is the same, nothing is in flight, and it is the same process."""
        assert self._process.process.poll() is None
        assert self._ask() == self._golden
        gauges = self.client.get("/metrics").text.splitlines()
        assert set(_IDLE) <= set(gauges)

    def check_log(self) -> None:
        """Nothing has failed in it so far."""
        assert not [line for line in self.log if "Traceback" in line or '"level": "error"' in line]

    def _ask(self) -> Any:
        answer = self.client.post("/classify", files={"file": CAT.read_bytes()})
        assert answer.status_code == 200
        return answer.json()["predictions"]

    def _read_log(self) -> None:
        """A pipe that nobody reads would stop the server."""
        assert self._process.process.stdout
        for line in self._process.process.stdout:
            self.log.append(line)


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").strip().partition(":")
    return name.lower(), value


@contextmanager
def watch(*flags: str, program: str | None = None, **env: str) -> Iterator[Watched]:
    with start(*flags, program=program, **env) as process:
        watched = Watched(process)
        with closing(watched.client):
            yield watched
