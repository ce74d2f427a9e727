"""Runs a peer in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bench.peers.peer import PYTHON, Peer, PeerSettings
from rig.load import content_type, create_body
from rig.server import find_free_port

_ROOT = Path(__file__).parents[2]
_KNOWN_PHOTO = _ROOT / "tests" / "images" / "cat.jpg"
_KNOWN_ANSWER = ("tabby, tabby cat", 0.431)
_TOLERANCE = 0.002
_START_S, _END_S = 120, 20
_LOG_TAIL = 2000


class PeerError(Exception):
    """The peer does not start, or its answer is wrong."""


class PeerProcess:
    """A context manager that starts a peer, and waits for the right answer to a known photo."""

    def __init__(self, peer: Peer, settings: PeerSettings) -> None:
        port = find_free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._peer, self._settings = peer, settings
        arguments = peer.command.format(port=port, workers=settings.workers)
        self._command = [str(PYTHON), *arguments.split()]

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            PeerError: it does not start, or its answer is wrong.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="peer", ignore_cleanup_errors=True)
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            cwd=_ROOT,
            env=self._environment(),
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._check(self._wait())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend its processes for a while: some work without being asked."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _environment(self) -> dict[str, str]:
        folder = self._folder.name
        peer = self._peer
        variables = {**peer.environment, **(peer.tuning if self._settings.tuned else {})}
        own = {name: value.format(folder=folder) for name, value in variables.items()}
        return {**os.environ, "TMPDIR": folder, **own, **self._settings.environment()}

    def _wait(self) -> object:
        request = urllib.request.Request(  # noqa: S310  # our own address
            f"{self.url}{self._peer.path}",
            create_body(_KNOWN_PHOTO.read_bytes(), self._peer.kind),
            {"Content-Type": content_type(self._peer.kind)},
        )
        end = time.perf_counter() + _START_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=_START_S) as answer:  # noqa: S310  # as above
                    return json.load(answer)
            except OSError as error:
                if time.perf_counter() > end or self._process.poll() is not None:
                    raise PeerError(f"{error}\n{self._log_tail()}") from error
            time.sleep(0.1)

    def _check(self, answer: object) -> None:
        best = answer
        while isinstance(best, list) and best:  # BentoML answers a batch of one with a list of one
            best = best[0]
        label, score = _KNOWN_ANSWER
        if (
            not isinstance(best, dict)
            or best.get("label") != label
            or abs(best.get("score", 0) - score) > _TOLERANCE
        ):
            raise PeerError(f"answers {best} instead of {label}, {score}")

    def _log_tail(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
        return self._log.read().decode(errors="replace")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._signal(signal.SIGKILL)
        self._log.close()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        """Signal all processes that inherited the folder: some leave their process group."""
        mark = f"TMPDIR={self._folder.name}\0".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
                if mark in environment.read_bytes():
                    os.kill(int(environment.parent.name), number)
