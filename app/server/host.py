"""The address that the service listens on."""

from __future__ import annotations

import socket
from contextlib import suppress

from app.settings import refuse_setting


def check_host(host: str) -> None:
    """See that it can be listened on.

    Args:
        host: an address, or a name of one.

    Raises:
        InvalidSettingError: it is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode
        raise refuse_setting("host", "not an address or a name of one", host) from error
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return
    raise refuse_setting("host", "not an address of this machine", host)
