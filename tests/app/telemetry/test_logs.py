from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.telemetry.logs import configure_logs


@contextmanager
def logged_to(
    output: Path, monkeypatch: pytest.MonkeyPatch, log_format: str = "json"
) -> Iterator[logging.Logger]:
    """A logger whose lines are in the file afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with output.open("w+") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        try:
            with configure_logs(log_format, "info"):  # type: ignore[arg-type]  # pytest gives strings
                yield logging.getLogger("x")
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_control_characters_are_escaped_in_every_format(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log_format: str
) -> None:
    output = tmp_path / "log"
    with logged_to(output, monkeypatch, log_format) as logger:
        logger.info("said %s", "a\r\nb\x1b[31m\x9b", extra={"path": "/c\r\nd\x1b[31m\x9b"})
    text = output.read_bytes().decode()
    assert text.count("\n") == 1
    assert not set("\r\x1b\x9b") & set(text)
    if log_format == "json":
        assert json.loads(text)["path"] == "/c\r\nd\x1b[31m\x9b"


def test_a_line_has_message_level_logger_extra_and_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "log"
    with logged_to(output, monkeypatch) as logger:
        logger.info("said %s", "it", extra={"path": "/é", "status": 200, "color_message": "it"})
    line = json.loads(output.read_text())
    del line["timestamp"]
    assert line == {
        "event": "said it",
        "level": "info",
        "logger": "x",
        "path": "/é",
        "status": 200,
    }


def test_the_time_is_that_of_logging_though_the_line_is_written_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "log"
    with logged_to(output, monkeypatch) as logger:
        record = logger.makeRecord("x", logging.INFO, "", 0, "said", (), None)
        record.created = 1.25
        logger.handle(record)
    assert json.loads(output.read_text())["timestamp"] == "1970-01-01T00:00:01.250000Z"


def test_a_traceback_is_told_without_local_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "log"
    with logged_to(output, monkeypatch) as logger:
        key = "abracadabra"
        try:
            int(key[:1])
        except ValueError:
            logger.exception("failed")
    text = output.read_text()
    assert key not in text
    (told,) = json.loads(text)["exception"]
    assert told["exc_type"] == "ValueError"
