"""Runs the process: uvicorn's configuration, signals, drain, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from types import FrameType

import uvicorn

from app.api.application import create_app
from app.api.parts import get_parts
from app.inference.information import InfoResponse, describe
from app.inference.memory import tune_malloc
from app.inference.pipeline import Pipeline
from app.server.connection import create_http_protocol
from app.server.watchdog import Watch, Watchdog
from app.settings import Settings, refuse_setting, unknown_variables
from app.telemetry.log_queue import LogQueue
from app.telemetry.logs import configure_logs
from app.telemetry.run_within import run_within
from model.errors import ModelError

_log = logging.getLogger(__name__)

_MIN_ANSWER_S = 0.5
"""The part of the shutdown time that is left after the last answer, in seconds."""

_SWITCH_S = 0.0005
"""How long a thread may hold the interpreter, in seconds, so that a stream with a batch's answer
does not wait while many requests are parsed: 2 % more images a second than with the default 5 ms.
"""

_NEW_OBJECTS = 10_000
"""How many new objects start a collection of garbage. Requests leave no cycles, and Python's 700
are a few requests in flight, which it would only visit: a twentieth of the event loop's work."""

_MAX_LOOP_STALL_S = 10.0
_MAX_REQUEST_TIMEOUTS = 2
"""How many request timeouts a batch or an image may take: after one, nobody waits for it."""
_MIN_HANG_S = 30.0
"""What they may take in any case, in seconds, since the machine may be slow."""
_LAST_WORDS_S = 2.0

Announce = Callable[[InfoResponse, str], object]
"""Called once the service is ready, with what runs and its URL; in a thread, since a terminal may
not be read."""


class Server(uvicorn.Server):
    """uvicorn's server, but a signal drains first, and the exit code says how it ended."""

    def __init__(self, settings: Settings, announce: Announce | None = None) -> None:
        self._settings = settings
        self._announce = announce
        self.exit_code = 0
        self._interrupted = False
        self._tick: tuple[int, ...] = ()
        app = create_app(settings, on_failure=self._fail)
        self.parts = get_parts(app)
        self.lifecycle = self.parts.lifecycle
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=create_http_protocol(self.parts),
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
        self.lifecycle.metrics.connections.set_function(lambda: len(self.server_state.connections))

    @property
    def watches(self) -> list[Watch]:
        """What must not hang."""
        limit_s = max(_MAX_REQUEST_TIMEOUTS * self._settings.request_timeout_s, _MIN_HANG_S)
        ids: dict[str, Callable[[Pipeline], Iterable[Hashable]]] = {
            "A batch has been running": lambda one: one.batcher.in_flight.ids(),
            "An image has been in a decode thread": lambda one: one.decode_threads.in_flight.ids(),
            "The engine has failed on every batch": lambda one: one.batcher.breaker.open_ids(),
        }

        def running(symptom: str) -> Iterable[Hashable]:
            lifecycle = self.lifecycle
            return ids[symptom](lifecycle.service.pipeline) if lifecycle.ready.is_set() else ()

        return [
            Watch("The event loop has stood still", _MAX_LOOP_STALL_S, lambda: self._tick),
            *(Watch(symptom, limit_s, partial(running, symptom)) for symptom in ids),
        ]

    async def on_tick(self, counter: int) -> bool:
        """Note that the loop runs; uvicorn calls it about every tenth of a second."""
        self.lifecycle.metrics.record_tick()
        self._tick = (counter,)
        return await super().on_tick(counter)

    async def main_loop(self) -> None:
        """Run from the start to a signal."""
        announcing = asyncio.create_task(self._announce_when_ready())
        await super().main_loop()
        announcing.cancel()
        self._tick = ()

    async def _announce_when_ready(self) -> None:
        await self.lifecycle.ready.wait()
        if self._announce:
            host, port, *_ = self.servers[0].sockets[0].getsockname()
            told = describe(self.lifecycle), create_url(host, port)
            threading.Thread(target=self._announce, args=told, daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve who has connected: closing a listener would reset the connections that it holds."""
        self.parts.live.close()
        create_protocol = partial(  # type: ignore[call-arg]  # what uvicorn calls the class with
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        for connection in self._close_listeners():
            await loop.connect_accepted_socket(create_protocol, connection)
        await super().shutdown(sockets)

    def _close_listeners(self) -> list[socket.socket]:
        """Stop listening; returns the connections that were made and not yet accepted."""
        listeners = [listener.dup() for server in self.servers for listener in server.sockets]
        for server in self.servers:
            server.close()
        connections = []
        for listener in listeners:
            with listener, suppress(OSError):  # once none is left
                listener.settimeout(0)
                while True:
                    connections.append(listener.accept()[0])
        return connections

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Turn readiness red, and stop at once or after DRAIN_S; a second Ctrl-C forces the exit.

        uvicorn's own would exit with the signal's code; a service that has answered all that it
        accepted exits with 0.
        """
        del frame
        if sig == signal.SIGINT:
            self.force_exit = self._interrupted
            self._interrupted = True
        drain_s = 0 if self.lifecycle.draining else self._settings.drain_s
        self.lifecycle.begin_drain()
        if drain_s and self.started:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(loop.call_later, drain_s, self._stop)
        else:
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, ModelError):
            _log.critical("Cannot start: %s", error)
        else:
            _log.critical("Cannot start.", exc_info=error)
        self.exit_code = 1
        self.should_exit = True


def run(settings: Settings, announce: Announce | None = None) -> int:
    """Serve until a signal; returns the process's exit code.

    Raises:
        InvalidSettingError: nothing can listen on HOST.
    """
    _check_host(settings.host)
    tune_malloc()
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    with configure_logs(settings.log_format, settings.log_level) as log_queue:
        for name in unknown_variables():
            _log.warning("%s is set, but there is no such setting.", name)
        code = _serve(settings, announce, log_queue)
    if threading.active_count() > 1:
        # The interpreter's own exit would wait for an image, or abort in native code.
        os._exit(code)
    return code


def _serve(settings: Settings, announce: Announce | None, log_queue: LogQueue) -> int:
    try:
        server = Server(settings, announce)
        log_queue.on_drop = server.lifecycle.metrics.log_lines_dropped.inc
        with Watchdog(server.watches, lambda why: _end_hung_process(why, log_queue)):
            server.run()
    except SystemExit as error:  # uvicorn's own: the address is taken
        return error.code if isinstance(error.code, int) else 1
    return server.exit_code


def _end_hung_process(why: str, log_queue: LogQueue) -> None:
    """Log why, if what hangs does not hold the log's lock, and exit."""

    def log() -> None:
        _log.critical(why)
        log_queue.stop()

    run_within(_LAST_WORDS_S, log)
    os._exit(os.EX_SOFTWARE)


def create_url(host: str, port: int) -> str:
    """Create the URL at which a browser on this machine finds what listens on an address."""
    if ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_host(host: str) -> None:
    """Raise InvalidSettingError unless this machine can listen on an address or a name of one."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode
        raise refuse_setting("host", "not an address or a name of one", host) from error
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return
    raise refuse_setting("host", "not an address of this machine", host)
