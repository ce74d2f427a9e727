from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from app.cli.bulk.files import FileError, Found, StoppedError
from app.cli.bulk.workers import Answerer, Workers


@pytest.fixture
def files(tmp_path: Path) -> list[Found]:
    for number in range(40):
        (tmp_path / f"{number:02}").write_bytes(bytes([number]))
    return [Found(str(tmp_path / f"{number:02}")) for number in range(40)]


class Asked:
    """Answers each image with its first byte; can be held at one of them."""

    def __init__(self, held: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self._held = held

    def __call__(self, images: Sequence[bytes]) -> list[int | FileError]:
        numbers = [image[0] for image in images]
        self.batches.append(numbers)
        if self._held in numbers:
            self.gate.wait()
        return list(numbers)

    def answerer(self, workers: int = 2, batch_size: int = 2) -> Answerer[int]:
        return Answerer(self, workers, batch_size, max_bytes=10)


def test_answers_come_in_the_order_of_the_files(files: list[Found]) -> None:
    asked = Asked(held=0)
    with Workers(files, asked.answerer()) as results:
        while sum(map(len, asked.batches)) < 8:  # the other worker gets on
            threading.Event().wait(0.001)
        asked.gate.set()
        assert list(results) == [(file.path, number) for number, file in enumerate(files)]
    assert max(map(len, asked.batches)) == 2


def test_no_more_is_begun_than_the_first_answer_may_keep_waiting(files: list[Found]) -> None:
    asked = Asked(held=0)
    taken: list[str] = []

    def take() -> Iterator[Found]:
        for file in files:
            taken.append(file.path)
            yield file

    with Workers(take(), asked.answerer()) as results:
        while sum(map(len, asked.batches)) < 16:
            threading.Event().wait(0.001)
        assert len(taken) <= 17
        asked.gate.set()
        assert len(list(results)) == 40


def test_a_file_without_an_answer_does_not_stop_the_others(files: list[Found]) -> None:
    files[1] = Found("nowhere")
    files[3] = Found("pattern", FileError("No file."))
    with Workers(files, Asked().answerer()) as results:
        answers = [answer for _, answer in results]
    assert [str(answer) for answer in answers if isinstance(answer, FileError)] == [
        "The file cannot be read: No such file or directory.",
        "No file.",
    ]
    assert len(answers) == 40


def test_what_ends_the_run_reaches_who_iterates_after_what_came_before(files: list[Found]) -> None:
    def ask(images: Sequence[bytes]) -> list[int | FileError]:
        if images[0][0] == 5:
            raise StoppedError("Gone.")
        return [image[0] for image in images]

    with Workers(files, Answerer(ask, 1, 1, max_bytes=10)) as results:
        assert [answer for _, answer in islice(results, 5)] == [0, 1, 2, 3, 4]
        with pytest.raises(StoppedError, match="Gone"):
            next(results)


def test_what_fails_while_files_are_found_reaches_who_iterates(files: list[Found]) -> None:
    def find() -> Iterator[Found]:
        yield files[0]
        raise OSError("broken")

    with Workers(find(), Asked().answerer()) as results:
        assert next(results) == (files[0].path, 0)
        with pytest.raises(OSError, match="broken"):
            next(results)


def test_leaving_ends_the_threads(files: list[Found]) -> None:
    workers = Workers(files, Asked().answerer())
    with workers as results:
        next(results)
    for thread in workers._threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in workers._threads)


@pytest.mark.parametrize("count", [3, 4])
def test_a_worker_that_finds_the_end_while_it_fills_a_batch_ends_too(
    files: list[Found], count: int
) -> None:
    asked = Asked(held=0)
    workers = Workers(files[:count], asked.answerer(workers=1))
    with workers as results:
        workers._threads[0].join()  # all are found before the first is answered
        asked.gate.set()
        assert len(list(results)) == count
