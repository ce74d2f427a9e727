"""What the OpenAPI document says of a route's errors, and of a body that it reads itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import TypeAdapter

from app.problems import MEDIA_TYPE
from app.schemas import Problem

Declaration = dict[str, Any]
Responses = dict[int | str, Declaration]

JSON: Final = "application/json"
BINARY: Final[Declaration] = {"type": "string", "format": "binary"}
_OF_EVERY_ROUTE: Final = (400, 408, 414, 429, 431, 500)
"""What the protocol class refuses before a route is looked for, and the last resort."""


def declare_problems(statuses: Iterable[int] = ()) -> Responses:
    """FastAPI's `responses`: problem documents with these statuses and those of every route."""
    return _declare(Problem, MEDIA_TYPE, statuses)


def declare_errors(schema: type, statuses: Iterable[int] = ()) -> Responses:
    """The same for a protocol's own errors; any other status has their shape, too.

    Without that, FastAPI would add a 422 of its own.
    """
    responses = _declare(schema, JSON, statuses)
    return {**responses, "default": responses[500]}


def _declare(schema: type, media_type: str, statuses: Iterable[int]) -> Responses:
    error = {
        "description": "A problem document" if media_type == MEDIA_TYPE else "What went wrong",
        "content": {media_type: {"schema": inline_schema(schema)}},
    }
    return dict.fromkeys(sorted({*_OF_EVERY_ROUTE, *statuses}), error)


def declare_body(schemas: dict[str, Declaration]) -> Declaration:
    """FastAPI's `openapi_extra`: a body's schema by media type."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}


def declare_keys(document: Declaration, is_public: Callable[[str], bool]) -> None:
    """Say in an OpenAPI document that a key is needed, but for the paths that are public."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["key"] = {"type": "http", "scheme": "bearer"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if not is_public(path):
                operation["security"] = [{"key": []}]
                responses = operation["responses"]
                responses["401"] = responses[str(_OF_EVERY_ROUTE[0])]


def inline_schema(schema: type) -> Declaration:
    """A schema without references, which would point out of where it is put."""
    document = TypeAdapter(schema).json_schema()
    definitions = document.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {key: resolve(value) for key, value in node.items()}

    resolved: Declaration = resolve(document)
    return resolved
