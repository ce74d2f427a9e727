from __future__ import annotations

import json
import logging
import sys
from io import StringIO

import pytest

from app.logs import AccessLog, configure_logs
from tests.fakes import FakeClock


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    return [(vars(r)["status"], vars(r).get("unlogged", 0)) for r in caplog.records]


def test_what_is_shed_has_a_line_a_second_and_status_that_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    clock = FakeClock()
    log = AccessLog(clock)
    for _ in range(100):
        log.tell(429, {})
    log.tell(503, {})
    clock.time += 0.9
    log.tell(429, {})
    clock.time += 0.2
    for _ in range(2):
        log.tell(429, {})
    assert lines_of(caplog) == [(429, 0), (503, 0), (429, 100)]


def test_what_is_not_shed_has_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "access")
    log = AccessLog(FakeClock())
    for status in (200, 400, 499, 500) * 3:
        log.tell(status, {})
    assert [status for status, _ in lines_of(caplog)] == [200, 400, 499, 500] * 3


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_control_characters_are_escaped_in_every_format(
    monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stdout", output := StringIO())
    try:
        configure_logs(log_format, "info")  # type: ignore[arg-type]  # pytest gives strings
        logging.getLogger("x").info(
            "said %s", "a\r\nb\x1b[31m\x9b", extra={"path": "/c\r\nd\x1b[31m\x9b"}
        )
    finally:
        root.handlers[:], level = before[0], before[1]
        root.setLevel(level)
    text = output.getvalue()
    assert text.count("\n") == 1
    assert not set("\r\x1b\x9b") & set(text)
    if log_format == "json":
        assert json.loads(text)["path"] == "/c\r\nd\x1b[31m\x9b"
