"""The names that others build upon: a change of them is a change of a file in tests/snapshots.

`make snapshots` writes them anew; the difference then shows what users will notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.api.application import create_app
from app.settings import Settings, describe_settings
from app.telemetry.metrics import Metrics

FOLDER = Path(__file__).parent / "snapshots"
WRITE = "WRITE_SNAPSHOTS" in os.environ
WORDS = {"description", "summary", "title", "operationId", "example", "examples"}
"""What a client's program does not rest on."""


def without_words(document: Any) -> Any:
    match document:
        case dict():
            # A property of that name has a schema, not a text.
            return {
                key: without_words(value)
                for key, value in document.items()
                if key not in WORDS
                or (key not in {"example", "examples"} and isinstance(value, dict))
            }
        case list():
            return [without_words(one) for one in document]
    return document


def openapi() -> str:
    document = without_words(create_app(Settings()).openapi())
    del document["info"]  # the version, in another place
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def settings() -> str:
    schema = without_words(Settings.model_json_schema())["properties"]
    lines = [
        f"{one.variable} {one.flag} default={one.default} "
        + json.dumps({k: v for k, v in schema[one.name].items() if k != "default"}, sort_keys=True)
        for one in describe_settings()
    ]
    return "\n".join(sorted(lines)) + "\n"


def metrics() -> str:
    lines = []
    for collector in Metrics().registry._collector_to_names:
        for family in getattr(collector, "describe", collector.collect)():
            labels = set(getattr(collector, "_labelnames", ()))
            labels |= {name for sample in family.samples for name in sample.labels}
            bounds = getattr(collector, "_upper_bounds", None) or getattr(
                collector, "_kwargs", {}
            ).get("buckets", ())
            line = f"{family.name} {family.type} labels={','.join(sorted(labels)) or '-'}"
            lines.append(line + (f" buckets={','.join(map(str, bounds))}" if bounds else ""))
    return "\n".join(sorted(lines)) + "\n"


@pytest.mark.parametrize(
    ("name", "create"),
    [("openapi.json", openapi), ("settings.txt", settings), ("metrics.txt", metrics)],
)
def test_what_others_build_upon_changes_only_on_purpose(
    name: str, create: Callable[[], str]
) -> None:
    path, now = FOLDER / name, create()
    if WRITE:
        path.write_text(now)
    assert now == path.read_text(), "if that is meant: make snapshots, and say it in CHANGELOG.md"
