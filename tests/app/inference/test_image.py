from __future__ import annotations

from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.errors import AppError, UnsupportedImageFormatError
from app.inference.decoding import DecodeThreads, ImageDecoder
from app.inference.image import ImageFile
from app.inference.plan import Plan
from model.engines.base import Engine
from model.images.decoder import DecodeLimits
from model.images.formats import table
from model.images.preprocessor_config import Preprocessing
from tests.image_files import uniform
from tests.model.images.image_files import (
    create_bmp,
    create_gif,
    create_png,
    encode,
    noise,
    patch_jpeg_size,
    png_header,
)

ENGINE = SimpleNamespace(checkpoint=SimpleNamespace(preprocessing=Preprocessing()))
PLAN = Plan(cast("Engine", ENGINE), frozenset())


def ignore(_: Any) -> None:
    pass


@pytest.fixture
def threads() -> DecodeThreads:
    return DecodeThreads(1, ImageDecoder(DecodeLimits(), scaled_jpegs=False))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"hello", id="text"),
        pytest.param(b"\xff\xd8\xff", id="jpeg-start"),
        pytest.param(b"GIF89a", id="gif-start"),
        pytest.param(b"RIFF\0\0\0\0WEBP", id="webp-start"),
        pytest.param(b"BM", id="bmp-start"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="png-start"),
    ],
)
def test_a_file_whose_header_is_rejected_costs_nothing_and_takes_no_decode_thread(
    data: bytes, threads: DecodeThreads
) -> None:
    image = ImageFile(data)
    assert image.predict_decode_s(threads, PLAN) == 0.0
    with pytest.raises(AppError):  # the threads are not even started
        image.start_decoding(threads, PLAN, ignore, ignore)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(create_png(png_header(20_000, 20_000), []), id="png-20000x20000"),
        pytest.param(create_bmp(30_000, -30_000), id="bmp-30000x30000"),
        pytest.param(create_gif((65_535, 65_535)), id="gif-65535x65535"),
        pytest.param(patch_jpeg_size(encode(noise(), "JPEG"), 65_500, 65_500), id="jpeg-65500"),
    ],
)
def test_an_image_beyond_the_limits_costs_nothing(data: bytes, threads: DecodeThreads) -> None:
    assert ImageFile(data).predict_decode_s(threads, PLAN) == 0.0


def test_a_rejected_header_is_read_once_too(
    threads: DecodeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageFile(b"hello")
    assert image.format == "unknown"
    monkeypatch.setattr(table, "read_header", lambda _: pytest.fail("read again"))
    assert image.predict_decode_s(threads, PLAN) == 0.0
    with pytest.raises(UnsupportedImageFormatError):
        image.start_decoding(threads, PLAN, ignore, ignore)


def test_a_header_is_read_once_for_the_cost_and_for_decoding(
    threads: DecodeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = table.read_header, []

    def count(data: bytes) -> Any:
        seen.append(data)
        return read(data)

    monkeypatch.setattr(table, "read_header", count)
    image = ImageFile(uniform(1))
    assert image.predict_decode_s(threads, PLAN) > 0
    decoded: SimpleQueue[Any] = SimpleQueue()
    with threads, image.start_decoding(threads, PLAN, decoded.put, decoded.put):
        assert decoded.get(timeout=30).pixels.shape == (224, 224, 3)
    assert len(seen) == 1
