"""An image in a locked-down container; CONTAINERS in the environment is the engine's command."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from typing import Self

from rig.server import wait_until_ready

ENGINE = shlex.split(os.environ.get("CONTAINERS") or "docker")

_LOCK_DOWN = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
_START_S = 60


def command(*arguments: str) -> str:
    """Run a command of the engine, and return what it writes."""
    done = subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Container:
    """A context manager that runs an image, waits until the service is ready, and stops it.

    Args:
        image: its tag.
        flags: more of them for the engine's `run`.

    Attributes:
        id: the container's.
        address: host and port of the service.
        ready_s: seconds from the command that starts it to the first 200 of /readyz.
    """

    def __init__(self, image: str, *flags: str) -> None:
        self._start = ["--detach", "--rm", "--publish=127.0.0.1::8000", *_LOCK_DOWN, *flags, image]

    def __enter__(self) -> Self:
        """Start it."""
        started = time.perf_counter()
        self.id = command("run", *self._start)
        try:
            host, port = command("port", self.id, "8000/tcp").splitlines()[0].split(":")
            self.address = host, int(port)
            wait_until_ready(self.url, _START_S)
        except BaseException:
            self.__exit__()
            raise
        self.ready_s = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        command("stop", self.id)

    @property
    def url(self) -> str:
        """Of the service."""
        host, port = self.address
        return f"http://{host}:{port}"

    def status(self, field: str) -> str:
        """What the kernel says of the service."""
        lines = command("exec", self.id, "cat", "/proc/1/status").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))

    @property
    def peak_mib(self) -> float:
        """Most resident memory of the service so far, in MiB."""
        return int(self.status("VmHWM").removesuffix("kB")) / 1024

    @property
    def state(self) -> str:
        """Whether it ran out of memory, whether it runs, and how often it was restarted."""
        fields = "{{.State.OOMKilled}} {{.State.Running}} {{.RestartCount}}"
        return command("inspect", "--format", fields, self.id)
