"""Holds the parts of an application together, for its server and its routes."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI

from app.api.page.live import Live
from app.api.routing import RouteTable
from app.inference.lifecycle import Lifecycle
from app.telemetry.access_log import AccessLog


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one application is built from."""

    lifecycle: Lifecycle
    access_log: AccessLog
    live: Live
    routes: RouteTable


def get_parts(app: FastAPI) -> Parts:
    """Return the parts of an application that `create_app` built."""
    parts: Parts = app.state.parts
    return parts
