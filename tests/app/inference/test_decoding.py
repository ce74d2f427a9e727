from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import ImageFile

from app.errors import (
    DeadlineExceededError,
    EmptyFileError,
    ImageTruncatedError,
    ShuttingDownError,
)
from app.inference.decoding import DecodeThreads, ImageDecoder, read_header
from app.inference.plan import Plan
from model.engines.base import Engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.format import EncodedImage
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.fakes import watch_waiting
from tests.image_files import uniform
from tests.model.images.image_files import encode, noise

ENGINE = SimpleNamespace(checkpoint=SimpleNamespace(preprocessing=Preprocessing()))
PLAN = Plan(cast("Engine", ENGINE), frozenset())


def create_threads(threads: int = 1, limits: DecodeLimits | None = None) -> DecodeThreads:
    return DecodeThreads(threads, ImageDecoder(limits or DecodeLimits(), scaled_jpegs=False))


def header(value: int) -> EncodedImage:
    return read_header(uniform(value))


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
        return self.outcomes.pop(0)


@pytest.fixture
def told() -> Told:
    return Told()


def test_an_image_becomes_pixels_of_the_networks_size(told: Told) -> None:
    threads = create_threads()
    with threads, threads.start(header(7), PLAN, submit=told, fail=told):
        decoded = told.wait()
    assert decoded.pixels.shape == (224, 224, 3)
    assert decoded.size == read_header(uniform(7)).size


def test_an_image_that_cannot_be_decoded_fails(told: Told) -> None:
    threads = create_threads()
    cut = read_header(encode(noise(), "PNG")[:60])
    with threads, threads.start(cut, PLAN, submit=told, fail=told):
        assert isinstance(told.wait(), ImageTruncatedError)


def test_no_bytes_are_no_image() -> None:
    with pytest.raises(EmptyFileError):
        read_header(b"")


def test_what_nobody_waits_for_is_never_decoded(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[EncodedImage] = []
    gate = threading.Event()
    begun = threading.Event()
    decode = Decoder.open

    def watched(self: Decoder, image: EncodedImage, *arguments: Any) -> Any:
        seen.append(image)
        begun.set()
        gate.wait()
        return decode(self, image, *arguments)

    monkeypatch.setattr(Decoder, "open", watched)
    first, left, last = map(header, (1, 2, 3))
    other = Told()
    with (
        create_threads() as threads,
        threads.start(first, PLAN, submit=told, fail=told),
    ):
        begun.wait()
        with threads.start(left, PLAN, submit=other, fail=other):
            pass
        with threads.start(last, PLAN, submit=other, fail=other):
            gate.set()
            told.wait()
            other.wait()
    assert seen == [first, last]
    assert not other.outcomes


def test_what_waits_for_room_leaves_as_soon_as_nobody_waits_for_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    gate, begun, load = threading.Event(), threading.Event(), ImageFile.ImageFile.load

    def held(image: ImageFile.ImageFile) -> Any:
        if image.tile:
            loads.append(1)
            begun.set()
            gate.wait(20)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", held)
    limits = DecodeLimits(max_bytes_at_once=1)
    other = Told()
    with (
        create_threads(2, limits) as threads,
        threads.start(header(1), PLAN, submit=told, fail=told),
    ):
        begun.wait()
        waiting = watch_waiting(threads._decoder._decoder, monkeypatch)
        with threads.start(header(2), PLAN, submit=other, fail=other):
            assert waiting.wait(10)
        assert isinstance(other.wait(), DeadlineExceededError)
        assert not told.outcomes
        gate.set()
        told.wait()
    assert loads == [1]


def test_an_image_holds_its_room_until_its_pixels_are_made(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[int] = []
    limits = DecodeLimits(max_bytes_at_once=1)
    threads = DecodeThreads(1, ImageDecoder(limits, scaled_jpegs=True))

    def watched(*arguments: Any) -> Any:
        free.append(threads._decoder._decoder._budget.free)
        return preprocess(*arguments)

    monkeypatch.setattr("app.inference.decoding.preprocess", watched)
    with threads, threads.start(header(1), PLAN, submit=told, fail=told):
        told.wait()
    assert free == [0]


def test_so_many_images_are_decoded_at_once() -> None:
    all_there, told = threading.Barrier(3), Told()

    def meet() -> None:
        all_there.wait(10)

    decoder = ImageDecoder(DecodeLimits(), scaled_jpegs=False)
    with DecodeThreads(3, decoder, throttle=meet) as threads, ExitStack() as callers:
        for _ in range(3):
            callers.enter_context(threads.start(header(1), PLAN, submit=told, fail=told))
        assert [told.wait().size for _ in range(3)] == [header(1).size] * 3


def test_threads_that_cannot_be_had_are_an_error_and_leave_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def refuse_the_third(thread: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    threads = create_threads(3)
    with pytest.raises(RuntimeError, match="new thread"), threads:
        pass
    for thread in begun:
        thread.join(10)
    assert not any(thread.is_alive() for thread in begun)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_big_jpeg_is_decoded_smaller_only_if_that_is_wanted(*, scaled: bool) -> None:
    image = read_header(encode(noise(1400, 1100), "JPEG"))
    decoder = ImageDecoder(DecodeLimits(), scaled_jpegs=scaled)
    needed = partial(needed_size, preprocessing=PLAN.preprocessing) if scaled else lambda _: None
    with Decoder(DecodeLimits()).open(image, needed) as decoded:
        expected = preprocess(decoded, PLAN.preprocessing)
    pixels, size = decoder.decode(image, PLAN, lambda: True)
    assert np.array_equal(pixels, expected)
    assert size == (1400, 1100)
    assert decoder.predict_seconds(image, PLAN) == image.predict_seconds(needed)


def test_a_prediction_is_of_this_machines_cores_as_soon_as_one_has_decoded(told: Told) -> None:
    decoder = ImageDecoder(DecodeLimits(), scaled_jpegs=True)
    predicted_s = decoder.predict_seconds(header(1), PLAN)
    times = itertools.count(1.0, 3 * predicted_s)
    with DecodeThreads(4, decoder, cpu_time=lambda: next(times)) as threads:
        assert threads.predict_seconds(header(1), PLAN) == pytest.approx(predicted_s / 4)
        with threads.start(header(1), PLAN, submit=told, fail=told):
            told.wait()
        assert threads.predict_seconds(header(1), PLAN) == pytest.approx(3 * predicted_s / 4)


def test_a_decoded_image_tells_its_size_and_times_within_what_it_took(told: Told) -> None:
    began = time.monotonic()
    with create_threads() as threads, threads.start(header(1), PLAN, submit=told, fail=told):
        decoded = told.wait()
    assert began <= decoded.ready <= time.monotonic()
    assert decoded.size == (8, 8)
    assert decoded.decode_s > 0
    assert 0 <= decoded.wait_s + decoded.decode_s <= decoded.ready - began


def test_the_threads_end_without_what_waits_and_without_waiting_for_what_runs(told: Told) -> None:
    begun, gate, other = threading.Event(), threading.Event(), Told()

    def hold() -> None:
        begun.set()
        gate.wait(10)

    threads = DecodeThreads(1, ImageDecoder(DecodeLimits(), scaled_jpegs=False), throttle=hold)
    with ExitStack() as callers:
        with threads:
            for caller in (told, other):
                callers.enter_context(threads.start(header(1), PLAN, submit=caller, fail=caller))
            assert begun.wait(10)
        assert isinstance(other.wait(), ShuttingDownError)
        assert not told.outcomes
        gate.set()
        assert told.wait().pixels.shape == (224, 224, 3)
