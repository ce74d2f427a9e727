"""docs/api.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from app.api.application import create_app
from app.api.documents.declarations import BINARY, OF_EVERY_ROUTE
from app.api.documents.openapi import TAGS
from app.settings import Settings
from reference.markdown import code, page, table

Node = dict[str, Any]

_METHODS: Final = ("get", "post")
_INTRODUCTION: Final = """\
A running service tells the same at `/docs`, to try out, and at `/openapi.json`, for programs.
Every answer carries `X-Request-ID`: the one that the client sent, if it has at most 128 letters,
digits and `._-`, or else a new one. Answers to one image carry `X-Cache`, those of `/classify` and
`/embed` also `Server-Timing`.

Any route may answer {names}; [errors](errors.md) has the sentences and shapes. A path that there
is not is 404 `not_found`, a method that it does not take 405 `method_not_allowed`; with keys, a
request without one is 401 `unauthorized`. Below are the errors that a route has besides."""


def write() -> str:
    """Every route."""
    document = create_app(Settings()).openapi()
    names = ", ".join(f"{error.status} {code(error.code)}" for error in OF_EVERY_ROUTE)
    return page(
        "HTTP API",
        "app/api/routes/",
        _INTRODUCTION.format(names=names),
        *(part for tag in TAGS for part in _describe_tag(document, tag)),
    )


def _describe_tag(document: Node, tag: dict[str, str]) -> Iterator[str]:
    yield f"## {tag['name']}"
    yield tag["description"]
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if tag["name"] in operations.get(method, {}).get("tags", ()):
                yield f"### {method.upper()} {path}"
                yield from _describe(document, operations[method])


def _describe(document: Node, operation: Node) -> Iterator[str]:
    yield f"{operation['summary']}."
    if description := operation.get("description"):
        yield description
    if parameters := operation.get("parameters"):
        yield table(["parameter", "in", "value", "default", "meaning"], map(_parameter, parameters))
    if body := operation.get("requestBody"):
        yield from _describe_bodies(document, body["content"])
    yield from _describe_answer(document, operation["responses"]["200"])
    if errors := list(_errors(operation["responses"])):
        yield f"Errors: {'; '.join(errors)}."


def _parameter(parameter: Node) -> list[str]:
    schema = parameter["schema"]
    default = schema.get("default")
    return [
        code(parameter["name"].title() if parameter["in"] == "header" else parameter["name"]),
        parameter["in"],
        _kind(schema),
        code(str(default).lower() if isinstance(default, bool) else default),
        parameter.get("description", schema.get("description", "")),
    ]


def _describe_bodies(document: Node, content: Node) -> Iterator[str]:
    for media_type, body in content.items():
        fields = [*_fields(document, body["schema"])]
        if fields:
            yield f"A body of {code(media_type)}:"
            yield table(["field", "value", "meaning"], fields)
    raw = " or ".join(code(kind) for kind, body in content.items() if body["schema"] == BINARY)
    if raw:
        is_image = "image/*" in content
        meaning = "the image itself" if is_image else "JSON as above, and tensors behind it"
        yield f"A body of {raw}: {meaning}."


def _describe_answer(document: Node, response: Node) -> Iterator[str]:
    for media_type, content in response.get("content", {}).items():
        schema = _resolve(document, content.get("schema", {}))
        fields = list(_fields(document, schema))
        about = schema.get("description", "").split("\n", maxsplit=1)[0]
        yield f"Answers {code(media_type)}{f': {about}' if about else '.'}"
        if fields:
            yield table(["field", "value", "meaning"], fields)


def _resolve(document: Node, schema: Node) -> Node:
    if reference := schema.get("$ref"):
        found: Node = document["components"]["schemas"][reference.rpartition("/")[2]]
        return found
    return schema


def _fields(document: Node, schema: Node, prefix: str = "") -> Iterator[list[str]]:
    """The leaves of a schema: `predictions[].label`, what kind of value, and what it means."""
    schema = _resolve(document, schema)
    nested = schema.get("properties")
    items = _resolve(document, schema.get("items", {}))
    if "properties" in items or "anyOf" in items:
        yield from _fields(document, items, f"{prefix}[]")
    elif nested:
        needed = schema.get("required", ())
        for name, value in nested.items():
            path = f"{prefix}.{name}" if prefix else name
            for leaf, kind, meaning in _fields(document, value, path):
                optional = name not in needed and leaf == code(path)
                yield [leaf, f"{kind}, optional" if optional else kind, meaning]
    elif (options := schema.get("anyOf")) and any("$ref" in one for one in options):
        for one in options:
            yield from _fields(document, one, prefix)
    elif prefix:
        meaning = schema.get("description") or items.get("description", "")
        yield [code(prefix), _kind(schema), str(meaning)]


def _kind(schema: Node) -> str:
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_kind(one) for one in options))
    if schema.get("format") == "binary":
        return "file"
    if values := schema.get("enum"):
        return ", ".join(map(code, values))
    if "const" in schema:
        return code(str(schema["const"]))
    inner = schema.get("items", schema.get("additionalProperties"))
    kind = "list" if schema.get("type") == "array" else str(schema.get("type", "any"))
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        kind += f" from {least:g}" if most is None else f" from {least:g} to {most:.10g}"
    return f"{kind} of {_kind(inner)}" if isinstance(inner, dict) and inner else kind


def _errors(responses: Node) -> Iterator[str]:
    usual = {error.code for error in OF_EVERY_ROUTE}
    for status, response in responses.items():
        (content,) = response.get("content", {"": {}}).values() if status != "200" else ({},)
        names = [code(name) for name in content.get("examples", {}) if name not in usual]
        if names:
            yield f"{status} {', '.join(names)}"
