"""Whether the installed uvicorn is one that `http_protocol` and `server` can build on."""

from __future__ import annotations

from typing import Final

import uvicorn
from uvicorn import server
from uvicorn.protocols.http import httptools_impl

_TESTED_WITH: Final = "0.54"
_NAMES: Final = {
    ("HttpToolsProtocol", "__init__"): "_loop transport flow cycle parser pipeline headers loop "
    "connections server_state",
    ("HttpToolsProtocol", "connection_made"): "connections add transport flow",
    ("HttpToolsProtocol", "connection_lost"): "cycle disconnected message_event",
    ("HttpToolsProtocol", "on_message_begin"): "url headers scope",
    ("HttpToolsProtocol", "on_headers_complete"): "url cycle RequestResponseCycle transport "
    "on_response_complete _start_asgi_task pipeline appendleft",
    ("HttpToolsProtocol", "on_body"): "cycle body message_event",
    ("HttpToolsProtocol", "on_message_complete"): "cycle more_body message_event",
    ("HttpToolsProtocol", "on_response_complete"): "total_requests flow resume_reading pipeline "
    "pop _start_asgi_task",
    ("HttpToolsProtocol", "pause_writing"): "flow",
    ("HttpToolsProtocol", "resume_writing"): "flow",
    ("RequestResponseCycle", "__init__"): "transport scope disconnected message_event "
    "response_started response_complete waiting_for_100_continue on_response",
    ("RequestResponseCycle", "send"): "transport write close disconnected keep_alive on_response",
    ("RequestResponseCycle", "receive"): "disconnected message_event",
    ("Server", "__init__"): "config server_state started should_exit force_exit",
    ("Server", "_serve"): "startup main_loop shutdown lifespan",
    ("Server", "startup"): "servers config create_server started",
    ("Server", "main_loop"): "on_tick",
    ("Server", "on_tick"): "counter should_exit",
    ("Server", "shutdown"): "servers sockets connections timeout_graceful_shutdown force_exit",
    ("Server", "handle_exit"): "sig frame should_exit force_exit",
}
"""By class and method: what must be spoken of in it."""


class UnfitUvicornError(Exception):
    """Another version is needed; the text is one line that names both."""


def check_uvicorn() -> None:
    """See that every method that is overridden or relied on still does what it did.

    Raises:
        UnfitUvicornError: one of them does not.
    """
    for (owner, method), names in _NAMES.items():
        module = server if owner == "Server" else httptools_impl
        function = getattr(getattr(module, owner, None), method, None)
        code = getattr(function, "__code__", None)
        known = {*code.co_names, *code.co_varnames} if code else set()
        if missing := set(names.split()) - known:
            raise UnfitUvicornError(
                f"uvicorn {uvicorn.__version__} does not fit this service, which was tested with "
                f"{_TESTED_WITH}: {owner}.{method} has no {min(missing)}."
            )
