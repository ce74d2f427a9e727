"""CORS: what a page of another origin may send, and read of an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Cors = Callable[[ASGIApp], ASGIApp]
"""Puts the headers on what an app answers."""

_READ = (
    *("X-Request-ID", "X-Cache", "Server-Timing", "Retry-After", "WWW-Authenticate"),
    "Inference-Header-Content-Length",
)


def create_cors(origins: Collection[str]) -> Cors:
    """Allow these origins, and no cookies; nothing at all where there are none."""
    if not origins:
        return lambda app: app
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # clients add their own, which are ignored; none of them is trusted
        expose_headers=_READ,
    )
