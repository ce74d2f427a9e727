"""Answers files in order, with bounded memory, in threads that batch what waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from app.cli.bulk.files import FileError, Found, read_file

_T = TypeVar("_T")

_AHEAD: Final = 4
"""Batches a worker that may be started before the first of their files is answered."""


@dataclass(frozen=True, slots=True)
class Answerer(Generic[_T]):
    """A function that answers images, and how to call it.

    Attributes:
        ask: takes the bytes of files and returns one result each; may be called from several
            threads at once. What it raises ends the run.
        workers: threads that call it.
        batch_size: images that it is given at once, at most.
        max_bytes: of one file.
    """

    ask: Callable[[Sequence[bytes]], Sequence[_T | FileError]]
    workers: int
    batch_size: int
    max_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[_T]):
    path: str
    result: Future[_T | FileError] = field(default_factory=Future)


class Workers(Generic[_T]):
    """Use as a context manager and iterate once; leaving it drops what has not been started."""

    def __init__(self, files: Iterable[Found], answerer: Answerer[_T]) -> None:
        self._files = files
        self._answerer = answerer
        self._room = threading.Semaphore(_AHEAD * answerer.workers * answerer.batch_size)
        self._work: queue.SimpleQueue[_Job[_T] | None] = queue.SimpleQueue()
        self._order: queue.SimpleQueue[_Job[_T] | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        # Daemons: at the end, one may still be reading a pipe that nobody writes to.
        targets = [self._feed] + [self._answer] * answerer.workers
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]

    def __enter__(self) -> Iterator[tuple[str, _T | FileError]]:
        """Start; iterates over each path with its answer or error, and raises what `ask` raised."""
        for thread in self._threads:
            thread.start()
        return self._results()

    def __exit__(self, *_: object) -> None:
        """Start no more files."""
        self._stopped.set()
        self._room.release()

    def _results(self) -> Iterator[tuple[str, _T | FileError]]:
        while job := self._order.get():
            yield job.path, job.result.result()
            self._room.release()
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        try:
            for found in self._files:
                self._room.acquire()
                if self._stopped.is_set():
                    break
                job: _Job[_T] = _Job(found.path)
                self._order.put(job)
                if found.error:
                    job.result.set_result(found.error)
                else:
                    self._work.put(job)
        except BaseException as error:  # noqa: BLE001  # the iterator raises it
            last: _Job[_T] = _Job("")
            last.result.set_exception(error)
            self._order.put(last)
        self._order.put(None)
        for _ in range(self._answerer.workers):
            self._work.put(None)

    def _answer(self) -> None:
        """Run one worker: take what waits, up to a batch, and answer it; until told to stop."""
        while (first := self._work.get()) and not self._stopped.is_set():
            jobs = [first]
            while len(jobs) < self._answerer.batch_size and (job := self._next()):
                jobs.append(job)
            images: dict[_Job[_T], bytes] = {}
            for job in jobs:
                try:
                    images[job] = read_file(job.path, self._answerer.max_bytes)
                except FileError as error:
                    job.result.set_result(error)
            try:
                answers = self._answerer.ask(list(images.values())) if images else ()
                for job, answer in zip(images, answers, strict=True):
                    job.result.set_result(answer)
            except BaseException as error:  # noqa: BLE001  # the iterator raises it
                for job in images:
                    if not job.result.done():
                        job.result.set_exception(error)

    def _next(self) -> _Job[_T] | None:
        try:
            job = self._work.get_nowait()
        except queue.Empty:
            return None
        if job is None:
            self._work.put(None)  # this worker must see it too, after its batch
        return job
