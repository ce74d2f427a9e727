"""How the process runs: uvicorn's configuration, signals, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.http_protocol import create_http_protocol
from app.lifecycle import Lifecycle
from app.logs import configure_logs
from app.main import create_app
from app.memory import limit_arenas, map_large_blocks
from app.settings import Settings, refuse_setting, unknown_variables
from app.uvicorn_fit import UnfitUvicornError
from model.errors import ModelError

_log = logging.getLogger(__name__)

_MIN_ANSWER_S = 0.5
"""Kept back from the shutdown time for closing down after the last answer, in seconds."""

_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter from others, in seconds: a stream that has a batch's
answer must not wait for many requests' parsing. Measured: 2 % more images a second than 5 ms.
"""


class Server(uvicorn.Server):
    """uvicorn's server, but a signal drains first, and the exit code says how it ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.exit_code = 0
        self._app: FastAPI = create_app(settings, on_failure=self._fail)
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                http=create_http_protocol(settings, self.lifecycle.metrics),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(
                    1, int(settings.shutdown_timeout_s - settings.drain_s - _MIN_ANSWER_S)
                ),
            )
        )

    @property
    def lifecycle(self) -> Lifecycle:
        """The parts of the app that this server runs."""
        lifecycle: Lifecycle = self._app.state.lifecycle
        return lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Turn readiness red; stop at once, or after DRAIN_S. A second Ctrl-C forces the end.

        uvicorn would raise the signal anew after shutting down, so that the exit code is the
        signal's; a service that answered all it had accepted ends with 0.
        """
        del frame
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        if self.lifecycle.draining:
            self.should_exit = True
            return
        self.lifecycle.begin_drain()
        if self._settings.drain_s and self.started:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, self._settings.drain_s, self._stop)
        else:
            self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, ModelError):
            _log.critical("Cannot start: %s", error)
        else:
            _log.critical("Cannot start.", exc_info=error)
        self.exit_code = 1
        self.should_exit = True


def _check_host(host: str) -> None:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode
        raise refuse_setting("host", "not an address or a name of one", host) from error
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return
    raise refuse_setting("host", "not an address of this machine", host)


def run(settings: Settings) -> int:
    """Serve until a signal; returns the process's exit code.

    Raises:
        InvalidSettingError: HOST is nothing to listen on.
    """
    _check_host(settings.host)
    limit_arenas()
    map_large_blocks()
    sys.setswitchinterval(_SWITCH_S)
    configure_logs(settings.log_format, settings.log_level)
    for name in unknown_variables():
        _log.warning("%s is set, but there is no such setting.", name)
    try:
        server = Server(settings)
        server.run()
    except UnfitUvicornError as error:
        _log.critical("Cannot start: %s", error)
        return 1
    except SystemExit as error:  # uvicorn's own: the address is taken
        return error.code if isinstance(error.code, int) else 1
    sys.stdout.flush()
    if any(thread.daemon for thread in threading.enumerate()):
        # A thread that is still in native code would abort the interpreter's own ending.
        os._exit(server.exit_code)
    return server.exit_code
