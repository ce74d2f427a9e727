"""Asks for an API key before a request is told anything else, its body unread."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.routing import RouteTable
from app.errors import UnauthorizedError
from app.settings import refuse_setting

_KEY: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
"""The characters that a Bearer header can carry (RFC 6750, section 2.1)."""


class ApiKeys:
    """The accepted keys; only their digests are kept."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._digests = [hashlib.sha256(key).digest() for key in keys]

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise unless the headers carry one accepted key.

        Raises:
            UnauthorizedError: there is no key, a wrong one, or several.
        """
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            raise UnauthorizedError
        scheme, _, key = given[0].partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # Compare with every key, so that the time does not tell which one is near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != b"bearer" or not any(matches):
            raise UnauthorizedError


class Authorization:
    """Refuses requests without a key, except to routes that are declared public."""

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, routes: RouteTable) -> None:
        self._app = app
        self._keys = keys
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; anything else passes through.

        Raises:
            UnauthorizedError: the request is refused.
        """
        if scope["type"] == "http" and not self._routes.find(scope["method"], scope["path"]).public:
            self._keys.check(scope["headers"])
        await self._app(scope, receive, send)


def load_keys(path: Path) -> ApiKeys:
    """Read keys, one a line; blank lines and those that begin with `#` are skipped.

    Raises:
        InvalidSettingError: the file cannot be read, has no key, or has a line that cannot be one.
            The message quotes nothing of the file.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        raise refuse_setting("api_keys_file", why, path) from error
    keys = [(number, line) for number, line in enumerate(lines, 1) if line and line[:1] != b"#"]
    if not keys:
        raise refuse_setting("api_keys_file", "has no key", path)
    for number, key in keys:
        if not _KEY.fullmatch(key):
            why = f"line {number} is no key: letters, digits and ._~+/- are"
            raise refuse_setting("api_keys_file", why, path)
    return ApiKeys(key for _, key in keys)
