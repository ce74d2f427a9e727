"""The image in a container; CONTAINERS in the environment is the engine's command."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import Self

from rig.server import wait_until_ready

_START_S = 60


class Container:
    """A context manager that runs an image, waits until the service is ready, and stops it.

    Args:
        image: its tag.
        cpus: its quota, in cores.
        more: flags of the engine's `run`.

    Attributes:
        ready_s: seconds from the command that starts it to the first 200 of /readyz.
    """

    def __init__(self, image: str, cpus: int, more: Sequence[str] = ()) -> None:
        self._engine = shlex.split(os.environ.get("CONTAINERS") or "docker")
        lock_down = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        # A stream a core, given: a noisy moment at start must not choose another number.
        quota = [f"--cpus={cpus}", f"--env=MOBILENET_STREAMS={cpus}"]
        flags = ["--detach", "--rm", "--publish=127.0.0.1::8000", *quota, *lock_down, *more]
        self._start = ["run", *flags, image]

    def __enter__(self) -> Self:
        """Start it."""
        started = time.perf_counter()
        self._name = self._command(*self._start)
        self.url = "http://" + self._command("port", self._name, "8000/tcp").splitlines()[0]
        wait_until_ready(self.url, _START_S)
        self.ready_s = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._command("stop", self._name)

    @property
    def peak_mib(self) -> float:
        """Most resident memory of the service so far, in MiB."""
        status = self._command("exec", self._name, "cat", "/proc/1/status")
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024

    @property
    def state(self) -> str:
        """Whether it ran out of memory, whether it runs, and how often it was restarted."""
        fields = "{{.State.OOMKilled}} {{.State.Running}} {{.RestartCount}}"
        return self._command("inspect", "--format", fields, self._name)

    def _command(self, *arguments: str) -> str:
        command = [*self._engine, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
