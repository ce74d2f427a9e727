"""Completes the OpenAPI document with what no single route declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from fastapi import FastAPI

from app.api.bodies.responses import JSON
from app.api.documents.declarations import (
    Declaration,
    component_name,
    declare_response,
    inline_schema,
)
from app.api.documents.examples import REQUEST_ID
from app.api.problems import ErrorFormat
from app.api.routing import RouteTable
from app.errors import UnauthorizedError, every_error

DESCRIPTION: Final = """\
Image labels and image embeddings from MobileNet V1. Send an image, get its classes or its features;
concurrent requests share batches.

Everything here can be tried: the bodies filled in are whole, with an image of a cup of coffee. To
send an image of your own, choose `multipart/form-data` where the body's type is chosen.
"""
TAGS: Final = (
    {"name": "Images", "description": "The service's own routes: classes and features."},
    {"name": "Service", "description": "What is served."},
    {"name": "Health", "description": "For orchestrators and Prometheus."},
    {"name": "Hugging Face", "description": "As `huggingface_hub.InferenceClient` asks."},
    {"name": "OpenAI", "description": "As the `openai` package asks."},
    {"name": "Open Inference", "description": "Version 2, as KServe's and Triton's clients ask."},
)
SWAGGER_UI: Final = {
    "tryItOutEnabled": True,
    "displayRequestDuration": True,
    "defaultModelsExpandDepth": 0,
}


def create_openapi(
    app: FastAPI, model: str, routes: RouteTable, *, has_keys: bool
) -> Callable[[], Declaration]:
    """Return the replacement of `app.openapi`; nothing is built before it is called.

    The examples ask for `model`; with keys, an operation that is not public asks for one.
    """
    build = app.openapi

    @cache
    def openapi() -> Declaration:
        document = build()
        components = document.setdefault("components", {})
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _summarize(operation)
                _fill_in(operation, model)
                if has_keys and not routes.find(method.upper(), path).public:
                    unauthorized = declare_response(routes.find_format(path), UnauthorizedError)
                    operation["responses"]["401"] = unauthorized
                    operation["security"] = [{"key": []}]
        if has_keys:
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        components["examples"] = _examples(document, routes.formats)
        schemas = components.setdefault("schemas", {})
        for one in routes.formats:
            name = component_name(one, "error")
            schemas[name] = {**inline_schema(one.schema), "title": name}
        return document

    return openapi


def _summarize(operation: Declaration) -> None:
    """Take the first sentence of a route's docstring as its summary."""
    sentence, _, rest = operation.pop("description", operation["summary"]).partition("\n\n")
    operation["summary"] = sentence.removesuffix(".").replace("`", "")
    if rest:
        operation["description"] = rest


def _fill_in(operation: Declaration, model: str) -> None:
    """Put the name of a served model into the examples."""
    for parameter in operation.get("parameters", ()):
        if (parameter["name"], parameter["in"]) == ("model", "path"):
            parameter["example"] = model
    content = operation.get("requestBody", {}).get("content", {})
    if "model" in (example := content.get(JSON, {}).get("example", {})):
        example["model"] = model


def _examples(document: Declaration, formats: Iterable[ErrorFormat]) -> Declaration:
    """Make an example of each error that some route refers to."""
    text = json.dumps(document)
    return {
        name: {
            "summary": error.title,
            "value": dict(error_format.describe(error(), REQUEST_ID)),
        }
        for error_format in formats
        for error in every_error()
        if f'/{(name := component_name(error_format, error.code))}"' in text
    }
