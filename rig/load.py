"""Sends load with wrk (https://github.com/wg/wrk): a connection asks again once it is answered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Kind = Literal["raw", "multipart"]
KINDS: tuple[Kind, ...] = ("multipart", "raw")

_BOUNDARY = "measured"
_TIMEOUT_S = 60
_SCRIPT = """
local bodies = {{}}
for number = 0, {count} - 1 do
  local file = io.open(string.format("{folder}/%d", number), "rb")
  bodies[number] = file:read("*a")
  file:close()
end
local headers = {{["Content-Type"] = "{content_type}"}}
local number = -1
request = function()
  number = (number + 1) % {count}
  return wrk.format("POST", nil, headers, bodies[number])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, '
    .. '"p50_ms": %f, "p99_ms": %f}}\\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass(frozen=True)
class Load:
    """The result of one run.

    Attributes:
        requests: that got an answer, with whatever status.
        seconds: how long the run took.
        refused: requests answered with another status than 2xx or 3xx.
        broken: requests without an answer.
        p50_ms: median latency of all answers.
        p99_ms: their 99th percentile.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def images_per_s(self) -> float:
        """Requests answered well."""
        return (self.requests - self.refused) / self.seconds

    @property
    def refused_per_s(self) -> float:
        """Requests refused."""
        return self.refused / self.seconds


class LoadGenerator:
    """A context manager that keeps photos as request bodies on disk, for wrk to send."""

    def __init__(self, photos: list[bytes]) -> None:
        if shutil.which("wrk") is None:
            sys.exit("wrk is needed: apt-get install wrk")
        self._photos = photos
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        """Write the bodies."""
        for kind in KINDS:
            folder = Path(self._folder.name) / kind
            folder.mkdir()
            for number, photo in enumerate(self._photos):
                (folder / str(number)).write_bytes(create_body(photo, kind))
            script = _SCRIPT.format(
                count=len(self._photos), folder=folder, content_type=content_type(kind)
            )
            folder.with_suffix(".lua").write_text(script, encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        """Remove them."""
        self._folder.cleanup()

    def run(
        self, url: str, kind: Kind, connections: int, seconds: float, path: str = "/classify"
    ) -> Load:
        """Send requests for so many seconds over so many connections."""
        script = Path(self._folder.name) / f"{kind}.lua"
        load = [f"-c{connections}", f"-d{seconds:.0f}s", f"--timeout={_TIMEOUT_S}s"]
        command = ["wrk", "-t1", *load, "-s", str(script), url + path]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return Load(**json.loads(output.splitlines()[-1]))


def create_body(photo: bytes, kind: Kind) -> bytes:
    """Return a request's body: the photo itself, or a form with it as `file`."""
    if kind == "raw":
        return photo
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
    return f"{head}\r\n".encode() + photo + f"\r\n--{_BOUNDARY}--\r\n".encode()


def content_type(kind: Kind) -> str:
    """Return the Content-Type that goes with `create_body`."""
    return "image/jpeg" if kind == "raw" else f"multipart/form-data; boundary={_BOUNDARY}"
