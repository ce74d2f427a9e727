from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from app.decoding import Decoded, DecodeThreads
from app.errors import EmptyFileError, InvalidImageError, ShuttingDownError
from model.decode import DecodeLimits, Decoder
from model.preprocessing import Preprocessing
from tests.pictures import uniform

PREPROCESSING = Preprocessing()


def create_threads() -> DecodeThreads:
    return DecodeThreads(1, DecodeLimits(), scaled_jpegs=False)


class Told:
    """What a decode thread tells, and the wait for it."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self._came = threading.Semaphore(0)

    def __call__(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self._came.release()

    def wait(self) -> Any:
        assert self._came.acquire(timeout=10)
        return self.outcomes[-1]


@pytest.fixture
def told() -> Told:
    return Told()


def test_pixels_are_entered_once_the_result_is_there(told: Told) -> None:
    results: list[Decoded] = []
    holder: list[Future[Decoded]] = []
    begun = threading.Event()

    def rest() -> None:
        """Hold the picture back until its future is known here."""
        assert begun.wait(10)

    def enter(pixels: Any) -> None:
        results.append(holder[0].result(timeout=0))
        told(pixels)

    threads = DecodeThreads(1, DecodeLimits(), scaled_jpegs=False, rest=rest)
    with threads, threads.start(uniform(7), PREPROCESSING, enter=enter, fail=told) as decoding:
        holder.append(decoding)
        begun.set()
        pixels = told.wait()
    assert pixels.shape == (224, 224, 3)
    assert results[0].pixels is pixels


def test_a_picture_that_cannot_be_read_fails(told: Told) -> None:
    threads = create_threads()
    with threads, threads.start(b"\x89PNG\r\n\x1a\n?", PREPROCESSING, enter=told, fail=told):
        assert isinstance(told.wait(), InvalidImageError)


def test_no_bytes_are_refused_before_a_thread_is_asked(told: Told) -> None:
    with (
        create_threads() as threads,
        pytest.raises(EmptyFileError),
        threads.start(b"", PREPROCESSING, enter=told, fail=told),
    ):
        pass


def test_what_nobody_waits_for_is_never_decoded(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    gate = threading.Event()
    begun = threading.Event()
    decode = Decoder.decode_reduced

    def watched(self: Decoder, data: bytes, *arguments: Any) -> Any:
        seen.append(data)
        begun.set()
        gate.wait()
        return decode(self, data, *arguments)

    monkeypatch.setattr(Decoder, "decode_reduced", watched)
    first, left, last = map(uniform, (1, 2, 3))
    other = Told()
    with (
        create_threads() as threads,
        threads.start(first, PREPROCESSING, enter=told, fail=told),
    ):
        begun.wait()
        with threads.start(left, PREPROCESSING, enter=other, fail=other):
            pass
        with threads.start(last, PREPROCESSING, enter=other, fail=other):
            gate.set()
            told.wait()
            assert isinstance(other.wait(), ShuttingDownError)
            other.wait()
    assert seen == [first, last]
