"""Runs the service in a process of its own, as `make serve` does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self

_START_S = 60


def find_free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def is_ready(url: str) -> bool:
    """Return whether /readyz answers 200."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1):  # noqa: S310  # our own address
            return True
    except OSError:
        return False


def wait_until_ready(
    url: str, seconds: float, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Poll /readyz until it answers 200.

    Args:
        url: of the server.
        seconds: how long it may take.
        process: the server's, if there is one: once it has ended, the wait is over.

    Raises:
        RuntimeError: the server is not ready in time, or has ended.
    """
    end = time.perf_counter() + seconds
    while not is_ready(url):
        if time.perf_counter() > end or (process is not None and process.poll() is not None):
            raise RuntimeError(f"{url} is not ready")
        time.sleep(0.01)


class ServerProcess:
    """A context manager that starts the server, waits until it is ready, and stops it.

    The log goes to a file, as a container engine would have it.

    Args:
        program: arguments of Python in place of the service's own command line.
        cores: the only ones that the server may use; all if empty.
        settings: flags of `serve`.

    Attributes:
        ready_s: seconds from the last start to the first green /readyz.
    """

    def __init__(
        self,
        *,
        program: Sequence[str] = ("-m", "app"),
        cores: Collection[int] = (),
        **settings: object,
    ) -> None:
        port = find_free_port()
        self.url = f"http://127.0.0.1:{port}"
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        serve = ["serve", f"--port={port}", "--log-format=json"]
        pin = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
        self._command = [*pin, sys.executable, *program, *serve, *flags]
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        """Start it."""
        self._log = tempfile.TemporaryFile()
        self.start()
        return self

    def start(self) -> None:
        """Start it, also again after `kill` or `stop`, and wait until it is ready."""
        started = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdout=self._log)
        try:
            wait_until_ready(self.url, _START_S, self._process)
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.perf_counter() - started

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as an orchestrator would, with SIGTERM, and return its exit code."""
        self._process.terminate()
        return self._process.wait()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()
        self._log.close()

    @property
    def resident_mib(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def cpu_s(self) -> float:
        """Processor time used so far, in seconds."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
