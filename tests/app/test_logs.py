from __future__ import annotations

import logging

import pytest

from app.logs import AccessLog
from tests.fakes import FakeClock


def test_refusals_have_one_line_a_second_which_counts_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    log = AccessLog(clock)
    with caplog.at_level(logging.INFO, "access"):
        for _ in range(100):
            log.write(status=429)
        log.write(status=200)
        clock.time += 1
        log.write(status=429)
    lines = [
        (record.__dict__["status"], record.__dict__.get("unlogged")) for record in caplog.records
    ]
    assert lines == [(429, 0), (200, None), (429, 99)]
