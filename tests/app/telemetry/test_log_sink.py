from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from app.telemetry import log_sink
from app.telemetry.log_sink import LogSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends, to read from and to write to."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def fill(writer: int) -> int:
    """Write until nothing more fits; returns how many bytes that were."""
    os.set_blocking(writer, False)
    count = 0
    try:
        while True:
            count += os.write(writer, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
        return count


def read_all(reader: int) -> bytes:
    """What is in the pipe, and what comes, until it is closed."""
    with os.fdopen(reader, "rb") as file:
        return file.read()


def test_lines_come_out_whole_and_in_order() -> None:
    reader, writer = os.pipe()
    with LogSink(writer) as sink:
        for number in range(100):
            sink.write(f"line {number} \udc80é\n")
    os.close(writer)
    lines = read_all(reader).decode().splitlines()
    assert lines == [f"line {number} \\udc80é" for number in range(100)]


def test_who_logs_never_waits_and_what_does_not_fit_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = os.pipe()
    filled = fill(writer)
    dropped: list[int] = []
    with LogSink(writer, room=10) as sink:
        sink.on_drop = dropped.append
        for _ in range(100):
            sink.write("1234\n")  # would hang here
        assert dropped
        os.read(reader, filled)
    os.close(writer)
    written = read_all(reader).count(b"1234")
    assert written + sum(dropped) == 100
    assert 1 <= written < 10
    assert [record.message for record in caplog.records] == [
        f"{sum(dropped)} log lines were dropped: nobody took them."
    ]


def test_a_reader_that_is_gone_costs_its_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    dropped: list[int] = []
    with LogSink(writer) as sink:
        sink.on_drop = dropped.append
        for _ in range(3):
            sink.write("line\n")
    assert sum(dropped) == 3


def test_an_end_with_nobody_reading_comes_all_the_same(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sink, "_CLOSE_S", 0.05)
    reader, writer = pipe
    fill(writer)
    with LogSink(writer) as sink:
        sink.write("line\n")
    assert sink._thread.is_alive()
    os.close(reader)
    sink._thread.join()


def test_a_handler_writes_to_it_as_to_a_stream() -> None:
    reader, writer = os.pipe()
    with LogSink(writer) as sink:
        record = logging.makeLogRecord({"msg": "told"})
        logging.StreamHandler(sink).handle(record)
    os.close(writer)
    assert read_all(reader) == b"told\n"
