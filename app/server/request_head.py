"""Checks a request's line and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.errors import HeadersTooLargeError, MalformedRequestError, UriTooLongError

_KIBI: Final = 1024
_MAX_URL: Final = 4 * _KIBI
_MAX_HEADERS: Final = 16 * _KIBI
_MAX_HEADER_LINES: Final = 100
MAX_HEAD: Final = _MAX_URL + _MAX_HEADERS
"""Bytes of the line and the headers."""
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(?::\d*)?", re.ASCII)
"""RFC 3986, section 3.2: a URL can be built from it."""


def check_size(url: bytes, head_bytes: int) -> None:
    """Bound a head that is still arriving.

    Raises:
        UriTooLongError, HeadersTooLargeError: the head is already too long.
    """
    if len(url) > _MAX_URL:
        raise UriTooLongError
    if head_bytes > MAX_HEAD:
        raise HeadersTooLargeError


def check_head(version: str, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Enforce RFC 9112 where the parser does not: version, Host, encoding; names in lower case.

    Raises:
        UriTooLongError, HeadersTooLargeError, MalformedRequestError: the head breaks a rule.
    """
    lines = size = hosts = 0
    valid = version in {"1.1", "1.0"}
    for name, value in headers:
        lines += 1
        size += len(name) + len(value) + len(b": \r\n")
        if name == b"host":
            hosts += 1
            valid = valid and _HOST.fullmatch(value) is not None
        elif name == b"transfer-encoding":
            valid = valid and version == "1.1" and value.lower() == b"chunked"
    check_size(url, 0)
    if size > _MAX_HEADERS or lines > _MAX_HEADER_LINES:
        raise HeadersTooLargeError
    if not valid or hosts > 1:
        raise MalformedRequestError("The request is not valid HTTP/1.1.")
    if not hosts and version == "1.1":
        raise MalformedRequestError("The request has no Host header.")
