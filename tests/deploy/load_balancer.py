"""nginx in front of replicas, with the configuration of docker-compose.yml."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rig.server import find_free_port, wait_until_ready

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "nginx.conf"

_START_S = 10
_RESOLVER = re.compile(r"^ *resolver .*;\n", re.MULTILINE)
_RETRY = re.compile(r"proxy_next_upstream error [^;]*;")
_REPLICAS = re.compile(r"^( *server) api:8000 resolve (.*;\n)", re.MULTILINE)


def find_nginx() -> str | None:
    """Return its path; Debian has it where only root's PATH looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def render(port: int, replicas: Sequence[str]) -> str:
    """Return the configuration with addresses instead of a name, for a port of this machine.

    Args:
        port: to listen on.
        replicas: as host:port.

    Raises:
        ValueError: the configuration no longer has the lines that this replaces.
    """
    text = CONFIGURATION.read_text(encoding="utf-8")
    servers = "".join(rf"\1 {replica} \2" for replica in replicas)
    for pattern, replacement in (
        (_RESOLVER, ""),
        (_REPLICAS, servers),
        (re.compile(r"listen 8000;"), f"listen 127.0.0.1:{port};"),
    ):
        text, count = pattern.subn(replacement, text)
        if count != 1:
            raise ValueError(f"{CONFIGURATION} has {pattern.pattern} {count} times")
    return text


class LoadBalancer:
    """A context manager that starts nginx, waits until it answers, and ends it.

    Args:
        replicas: their URLs.
        retry: repeat a request that a replica failed; without it each failure reaches the client,
            and each request has a connection of its own, because `use` closes idle ones.
    """

    def __init__(self, replicas: Sequence[str], *, retry: bool = True) -> None:
        nginx = find_nginx()
        assert nginx, "nginx is needed: apt-get install nginx"
        self._port = find_free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._replicas, self._retry = replicas, retry
        self._nginx = nginx

    def __enter__(self) -> Self:
        """Start it."""
        self._folder = tempfile.TemporaryDirectory()
        Path(self._folder.name).chmod(0o711)  # started as root, nginx works as another user
        self._write()
        flags = ["-p", f"{self._folder.name}/", "-c", str(self._file), "-g", "daemon off;"]
        self._process = subprocess.Popen([self._nginx, *flags])
        wait_until_ready(self.url, _START_S, self._process)
        return self

    @property
    def _file(self) -> Path:
        return Path(self._folder.name) / "nginx.conf"

    def _write(self) -> None:
        text = render(self._port, [one.removeprefix("http://") for one in self._replicas])
        if not self._retry:
            text = _RETRY.sub("proxy_next_upstream off; keepalive_timeout 0;", text)
        self._file.write_text(text, encoding="utf-8")

    def use(self, replicas: Sequence[str]) -> None:
        """Send new requests to these; those in flight go on."""
        self._replicas = replicas
        self._write()
        self._process.send_signal(signal.SIGHUP)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()
