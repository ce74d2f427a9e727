"""The service in a process of its own, as `make serve` starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

_START_S = 60


def find_free_port() -> int:
    """A TCP port that nobody listens on at 127.0.0.1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def is_ready(url: str) -> bool:
    """Ask /readyz."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1):  # noqa: S310  # our own address
            return True
    except OSError:
        return False


def wait_until_ready(
    url: str, seconds: float, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Ask /readyz until the answer is yes.

    Args:
        url: of the server.
        seconds: how long it may take.
        process: the server's; once it has ended, nobody waits any longer.

    Raises:
        RuntimeError: the server is not ready in time, or has ended.
    """
    end = time.perf_counter() + seconds
    while not is_ready(url):
        if time.perf_counter() > end or (process is not None and process.poll() is not None):
            raise RuntimeError(f"{url} is not ready")
        time.sleep(0.01)


class ServerProcess:
    """A context manager: entering waits until the server is ready.

    Its log goes to a file, as a container engine would have it.

    Args:
        program: what Python runs, in place of the service's own command line.
        cores: the only ones that it may use.
        settings: flags of `serve`.
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
        with ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile())
            self.start()
            self._stack = stack.pop_all()
        return self

    def start(self) -> None:
        """Start it, also anew after `kill`, and wait until it is ready."""
        started = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdout=self._log)
        wait_until_ready(self.url, _START_S, self._process)
        self.ready_s = time.perf_counter() - started

    def kill(self) -> None:
        """End it as a crash would: it answers nothing any more."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as an orchestrator would, with SIGTERM; its exit code."""
        self._process.terminate()
        return self._process.wait()

    def __exit__(self, *_: object) -> None:
        """End it."""
        with self._stack:
            self.stop()

    @property
    def resident_mib(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def cpu_s(self) -> float:
        """Processor time used so far, in seconds."""
        return cpu_s(Path(f"/proc/{self._process.pid}/stat"))

    @property
    def loop_cpu_s(self) -> float:
        """The event loop's part of it: its thread is the process's first."""
        return cpu_s(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/stat"))


def cpu_s(stat: Path) -> float:
    """Processor time of a process or a thread, of its `stat` in /proc, in seconds."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
