from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Iterator

import pytest

from app.telemetry import log_queue
from app.telemetry.log_queue import LogQueue


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends, to read from and to write to."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def create_queue(file: int, max_records: int = 100) -> LogQueue:
    return LogQueue(file, logging.Formatter("%(message)s"), max_records)


def log(queue: LogQueue, message: str) -> None:
    queue.handle(logging.makeLogRecord({"msg": message}))


def count_drops(queue: LogQueue) -> list[int]:
    """A list that grows by one with each record that is dropped."""
    dropped: list[int] = []
    queue.on_drop = lambda: dropped.append(1)
    return dropped


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
    with create_queue(writer) as queue:
        for number in range(100):
            log(queue, f"line {number} \udc80é")
    os.close(writer)
    lines = read_all(reader).decode().splitlines()
    assert lines == [f"line {number} \\udc80é" for number in range(100)]


def test_who_logs_never_waits_and_what_does_not_fit_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = os.pipe()
    filled = fill(writer)
    with create_queue(writer, max_records=2) as queue:
        dropped = count_drops(queue)
        for _ in range(100):
            log(queue, "1234")  # would hang here
        assert dropped
        os.read(reader, filled)
    os.close(writer)
    written = read_all(reader).count(b"1234")
    assert written + len(dropped) == 100
    assert 1 <= written < 10
    assert [record.message for record in caplog.records] == [
        f"Dropped {len(dropped)} log lines, because nobody read them."
    ]


def test_a_reader_that_is_gone_costs_its_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with create_queue(writer) as queue:
        dropped = count_drops(queue)
        for _ in range(3):
            log(queue, "line")
    assert len(dropped) == 3


def test_a_record_that_cannot_be_formatted_is_dropped_and_the_next_one_written() -> None:
    reader, writer = os.pipe()
    with create_queue(writer) as queue:
        dropped = count_drops(queue)
        queue.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        log(queue, "line")
    os.close(writer)
    assert len(dropped) == 1
    assert read_all(reader) == b"line\n"


def test_a_traceback_that_waits_keeps_no_frame_alive() -> None:
    queue = create_queue(os.open(os.devnull, os.O_WRONLY))

    class Image:
        pass

    def fail() -> weakref.ref[Image]:
        image = Image()
        try:
            os.close(-1)
        except OSError:
            queue.handle(logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()}))
        return weakref.ref(image)

    assert fail()() is None


def test_an_end_with_nobody_reading_comes_all_the_same(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "_CLOSE_S", 0.05)
    reader, writer = pipe
    fill(writer)
    with create_queue(writer) as queue:
        dropped = count_drops(queue)
        log(queue, "line")
    assert not dropped
    os.close(reader)
    while not dropped:
        pass
