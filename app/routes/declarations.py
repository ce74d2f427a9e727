"""What the OpenAPI document says of a route's errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic import TypeAdapter

from app.problems import MEDIA_TYPE
from app.schemas import Problem

Responses = dict[int | str, dict[str, Any]]

_PROBLEM: Final = TypeAdapter(Problem).json_schema()
_OF_EVERY_ROUTE: Final = (400, 408, 414, 429, 431, 500)
"""What the protocol class refuses before a route is looked for, and the last resort."""


def declare_problems(statuses: Iterable[int] = ()) -> Responses:
    """FastAPI's `responses`: problem documents with these statuses and those of every route."""
    problem = {"description": "A problem document", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
    return dict.fromkeys(sorted({*_OF_EVERY_ROUTE, *statuses}), problem)
