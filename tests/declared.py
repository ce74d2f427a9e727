"""Holds every refusal that a test provokes against the OpenAPI document."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import httpx2

from app.api.application import create_app
from app.settings import Settings


class Declared:
    """Knows which errors each operation declares."""

    def __init__(self) -> None:
        paths: dict[str, Any] = create_app(Settings()).openapi()["paths"]
        self._operations = [
            (re.compile(re.sub(r"\\\{.*?\\\}", ".+", re.escape(path))), operations)
            for path, operations in paths.items()
        ]

    def check(self, response: httpx2.Response) -> None:
        """Fail if a route answered with an error that it does not declare."""
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return
        response.read()
        path, method = response.request.url.path, response.request.method.lower()
        for pattern, operations in self._operations:
            if pattern.fullmatch(path) and method in operations:
                answer = operations[method]["responses"].get(str(response.status_code))
                assert answer, f"{method} {path} declares no {response.status_code}"
                (content,) = answer["content"].values()
                code = _code(response.json())
                known = content.get("examples")
                assert not (known and code) or code in known, f"{method} {path}: {code}"
                return


def _code(document: dict[str, Any]) -> str | None:
    """The error's code, where the protocol tells it."""
    error = document.get("error")
    code: str | None = (error if isinstance(error, dict) else document).get("code")
    return code
