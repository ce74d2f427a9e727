"""Explains pydantic's errors to clients, without a word that they sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from app.errors import InvalidParameterError


def explain(
    errors: Sequence[Mapping[str, Any]], of: Literal["body", "query"] = "body"
) -> InvalidParameterError:
    """Return an error that names the first field that is wrong, and says why.

    Args:
        errors: pydantic's, or FastAPI's of a query, whose locations begin with "query".
        of: the part of the request that was validated.
    """
    first = errors[0]
    is_body = of == "body"
    path = first["loc"] if is_body else first["loc"][1:]
    if first["type"] == "extra_forbidden":
        kind = "field" if is_body else "query parameter"
        return InvalidParameterError(
            f"There is an unknown {kind}; /docs lists those of this route."
        )
    if not path:
        return InvalidParameterError("The body must be a JSON object.")
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    parameter = str(path[0]) if is_body else None
    return InvalidParameterError(f"{''.join(steps)[1:]}: {first['msg']}.", parameter)
