"""API keys: who may ask."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from app.errors import UnauthorizedError
from app.settings import refuse_setting

_KEY: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
"""What a Bearer header can carry (RFC 6750, section 2.1)."""
_PUBLIC: Final = frozenset(
    {
        *("/livez", "/readyz", "/healthz", "/health"),
        *("/", "/docs", "/docs/oauth2-redirect", "/openapi.json"),
    }
)
_PUBLIC_FOLDERS: Final = ("/v2/health/", "/static/", "/static-offline-docs/")


def is_public(path: str) -> bool:
    """Whether nobody needs a key there: probes, the page's files, and the documentation."""
    return path in _PUBLIC or path.startswith(_PUBLIC_FOLDERS)


class ApiKeys:
    """The keys that are accepted, of which only digests are held."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._digests = [hashlib.sha256(key).digest() for key in keys]

    def check(self, scope: Mapping[str, Any]) -> None:
        """Let a request pass that has a key, or needs none.

        Raises:
            UnauthorizedError: it has no key, a wrong one, or several.
        """
        if is_public(scope["path"]):
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            raise UnauthorizedError
        scheme, _, key = given[0].partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # All of them, so that the time tells nothing of which one is near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != b"bearer" or not any(matches):
            raise UnauthorizedError


def load_keys(path: Path) -> ApiKeys:
    """Read keys, one a line; blank lines and those that begin with `#` are comments.

    Raises:
        InvalidSettingError: the file cannot be read, has no key, or a line that can be none. Its
            text has nothing of the file's.
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
