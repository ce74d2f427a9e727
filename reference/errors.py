"""docs/errors.md."""

from __future__ import annotations

import json

from app.api.application import create_app
from app.api.documents.examples import REQUEST_ID
from app.api.parts import get_parts
from app.api.problems import ErrorFormat
from app.errors import AppError, OverloadedError, every_error
from app.settings import Settings
from reference.markdown import code, page, table

_PREFIXES = {
    "native": "`/classify`, `/embed` and all the rest",
    "huggingface": "`/models/`",
    "openai": "`/v1/`",
    "open_inference": "`/v2/`",
}
_INTRODUCTION = """\
Every refusal has a status, a stable `code` and a sentence for people. The sentences are fixed: none
has anything that the client sent, and none tells of the service's insides. Some are more exact than
the one below, and name the parameter or the place in a list. 429 and 503 say in `Retry-After` when
to come back."""


def write() -> str:
    """Every error, and how each protocol tells of it."""
    closing = ", ".join(code(error.code) for error in every_error() if error.closes_connection)
    return page(
        "Errors",
        "app/errors.py",
        _INTRODUCTION,
        table(
            ["status", "code", "when", "the sentence"],
            map(_row, sorted(every_error(), key=lambda one: (one.status, one.code))),
        ),
        f"The connection closes after {closing}: what the client still sends is not read.",
        "## In each protocol's shape",
        "The path's first segment tells the protocol. The OpenAI and Open Inference protocols know "
        "400 for whatever is wrong with a request: what is 415 or 422 above is 400 there.",
        *(_show(one) for one in get_parts(create_app(Settings())).routes.formats),
    )


def _row(error: type[AppError]) -> list[str]:
    when = (error.__doc__ or "").split("\n", maxsplit=1)[0]
    return [str(error.status), code(error.code), when, error.detail]


def _show(error_format: ErrorFormat) -> str:
    document = json.dumps(error_format.describe(OverloadedError(), REQUEST_ID), indent=2)
    head = f"At {_PREFIXES[error_format.name]}, as {code(error_format.media_type)}:"
    return f"{head}\n\n```json\n{document}\n```"
