from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from app.telemetry.access_log import ACCESS
from app.telemetry.logs import configure_logs


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_control_characters_are_escaped_in_every_format(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log_format: str
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with (tmp_path / "log").open("w+") as output:
        monkeypatch.setattr(sys, "stdout", output)
        try:
            with configure_logs(log_format, "info"):  # type: ignore[arg-type]  # pytest gives strings
                logging.getLogger("x").info(
                    "said %s", "a\r\nb\x1b[31m\x9b", extra={"path": "/c\r\nd\x1b[31m\x9b"}
                )
        finally:
            root.handlers[:], level = before[0], before[1]
            root.setLevel(level)
        text = (tmp_path / "log").read_bytes().decode()
    assert text.count("\n") == 1
    assert not set("\r\x1b\x9b") & set(text)
    if log_format == "json":
        assert json.loads(text)["path"] == "/c\r\nd\x1b[31m\x9b"


def test_a_requests_line_is_what_every_other_line_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with (tmp_path / "log").open("w+") as output:
        monkeypatch.setattr(sys, "stdout", output)
        try:
            with configure_logs("json", "info"):
                for name in (ACCESS, "x"):
                    logging.getLogger(name).info("request", extra={"path": "/\x9bé", "status": 200})
        finally:
            root.handlers[:], level = before[0], before[1]
            root.setLevel(level)
        access, other = (tmp_path / "log").read_text().splitlines()
    start, end = access.split('"timestamp"')
    assert start.replace('"access"', '"x"') == other.split('"timestamp"')[0]
    assert len(end) == len(other.split('"timestamp"')[1])
