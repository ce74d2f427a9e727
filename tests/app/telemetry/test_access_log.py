from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest

from app.telemetry.access_log import ACCESS, AccessLog
from tests.conftest import LiveServer
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
        log.log(429, {})
    log.log(503, {})
    clock.time += 0.9
    log.log(429, {})
    clock.time += 0.2
    for _ in range(2):
        log.log(429, {})
    assert lines_of(caplog) == [(429, 0), (503, 0), (429, 100)]


def test_what_is_not_shed_has_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "access")
    log = AccessLog(FakeClock())
    for status in (200, 400, 499, 500) * 3:
        log.log(status, {})
    assert [status for status, _ in lines_of(caplog)] == [200, 400, 499, 500] * 3


@pytest.mark.parametrize(
    ("statuses", "level"),
    [
        ((200, 304, 400, 401, 404, 422, 499), logging.INFO),
        ((429, 503), logging.WARNING),
        ((500, 504), logging.ERROR),
    ],
)
def test_a_level_says_whom_a_failure_concerns(
    caplog: pytest.LogCaptureFixture, statuses: tuple[int, ...], level: int
) -> None:
    caplog.set_level(logging.INFO, "access")
    for status in statuses:
        AccessLog(FakeClock()).log(status, {})
    assert {record.levelno for record in caplog.records} == {level}


class Lines:
    """What a running server logs of requests, one after the other."""

    def __init__(self, server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "access")
        self._server = server
        self._caplog = caplog

    def next(self) -> dict[str, Any]:
        server, records = self._server, self._caplog.records
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 0)
        (line,) = [vars(record) for record in records if record.name == ACCESS]
        self._caplog.clear()
        return {name: value for name, value in line.items() if name in FIELDS}


FIELDS = {
    "request_id", "method", "path", "route", "status", "duration_ms", "model", "images",
    "image_bytes", "answer_bytes", "format", "width", "height", "cache", "batch_size", "read_ms",
    "decode_ms", "queue_ms", "inference_ms", "encode_ms", "answered",
}  # fmt: skip


@pytest.fixture
def lines(live_server: LiveServer, caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(live_server, caplog)


def test_a_line_tells_what_an_image_was_and_where_its_time_went(
    lines: Lines, client: httpx2.Client, cat: bytes
) -> None:
    answer = client.post("/classify?top_k=3", files={"file": cat})
    line = lines.next()
    assert set(line) == FIELDS - {"answered"}
    timing = answer.json()["timing_ms"]
    expected = {
        "request_id": answer.headers["X-Request-ID"],
        "route": "/classify",
        "path": "/classify",
        "model": "mobilenet_v1_1.0_224",
        "image_bytes": len(cat),
        "answer_bytes": len(answer.content),
        "cache": answer.headers["X-Cache"],
        "decode_ms": round(timing["decode"], 2),
        "inference_ms": round(timing["inference"], 2),
        "batch_size": answer.json()["batch_size"],
    }
    assert {name: line[name] for name in expected} == pytest.approx(expected, abs=0.02)
    assert (line["format"], line["width"], line["height"]) == ("jpeg", 451, 300)
    stages = sum(
        line[f"{stage}_ms"] for stage in ("read", "decode", "queue", "inference", "encode")
    )
    assert stages <= line["duration_ms"] + 0.1


def test_a_line_of_many_images_tells_how_many_were_answered(
    lines: Lines, client: httpx2.Client, cat: bytes, coffee: bytes
) -> None:
    files = [("file", cat), ("file", coffee), ("file", b"no image")]
    client.post("/classify/batch", files=files)
    line = lines.next()
    assert (line["images"], line["answered"]) == (3, 2)
    assert line["image_bytes"] == len(cat) + len(coffee) + len(b"no image")
    assert "format" not in line


def test_a_line_of_what_has_no_image_is_short(lines: Lines, client: httpx2.Client) -> None:
    client.get("/livez")
    common = {"request_id", "method", "path", "route", "status", "duration_ms", "answer_bytes"}
    assert set(lines.next()) == common


def test_nothing_that_is_secret_is_logged(
    client: httpx2.Client, live_server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "abracadabra"  # noqa: S105  # a word to look for
    headers = {"Authorization": f"Bearer {secret}", "Cookie": secret, "X-Other": secret}
    for path in (f"/classify?key={secret}", "/classify", f"/labels?model={secret}"):
        client.post(path, content=secret.encode(), headers=headers)
        client.post(path, files={"file": (secret, secret.encode(), "image/png")}, headers=headers)
        client.get(path, headers=headers)
    live_server.wait_for(lambda: live_server.metric("mobilenet_in_flight_requests") == 0)
    # The client logs too, and uvicorn's own access log is off only in a process of its own.
    others = ("http", "uvicorn.access")
    ours = [record for record in caplog.records if not record.name.startswith(others)]
    assert len(ours) >= 9
    assert not [record for record in ours if secret in str(vars(record))]
