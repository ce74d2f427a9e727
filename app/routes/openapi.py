"""What FastAPI cannot tell by itself: bodies that routes read as they arrive, and errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

Declaration = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

JSON = "application/json"
BINARY: Declaration = {"type": "string", "format": "binary"}


def describe_body(schemas: dict[str, Declaration]) -> Declaration:
    """OpenAPI's words for a body: its schema by media type."""
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}


def describe_errors(schema: type, statuses: Iterable[int]) -> Responses:
    """OpenAPI's words for errors of one shape: these, and whatever else there may be."""
    error = {
        "description": "What went wrong",
        "content": {JSON: {"schema": inline_schema(schema)}},
    }
    return dict.fromkeys([*statuses, "default"], error)  # else FastAPI adds a 422 of its own


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
