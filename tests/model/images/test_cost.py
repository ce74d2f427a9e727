from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.errors import ImageError
from model.images.decoded_image import NeededSize
from model.images.formats.table import read_header
from model.images.pixels import needed_size
from model.images.preprocessor_config import Preprocessing
from tests.model.images.image_files import (
    RGB,
    add_scans,
    create_gif,
    create_png,
    encode,
    png_header,
)

RGBA = 6
NEEDED = partial(needed_size, preprocessing=Preprocessing())


def predict(data: bytes, needed: NeededSize = NEEDED) -> float:
    return read_header(data).predict_seconds(needed)


def flat(size: tuple[int, int], image_format: str) -> bytes:
    return encode(Image.new("RGB", size, "teal"), image_format)


LEAST = 0.001


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_more_pixels_cost_more(image_format: str) -> None:
    small, large = (
        predict(flat(size, image_format), lambda _: None) for size in ((250, 250), (1000, 1000))
    )
    assert 0.001 < small < large
    assert large - LEAST == pytest.approx(16 * (small - LEAST), rel=0.2)


def test_a_large_image_with_alpha_costs_hundreds_of_small_ones() -> None:
    assert predict(create_png(png_header(5000, 5000, colour=RGBA), [])) > 100 * predict(
        flat((400, 400), "JPEG")
    )


def test_an_image_costs_no_more_than_inflating_all_of_it() -> None:
    header = png_header(100, 100, colour=RGB)
    short, long, longer = (create_png(header, []) + bytes(size) for size in (0, 10**6, 10**7))
    assert predict(short) < predict(long) == predict(longer)


def test_a_jpeg_decoded_at_a_reduced_size_costs_less() -> None:
    data = flat((4000, 3000), "JPEG")
    assert predict(data) < predict(data, lambda _: None) / 3


def test_every_scan_of_a_jpeg_costs() -> None:
    data = encode(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    assert (
        predict(add_scans(data, 20)) > 2 * predict(data) > 2 * predict(flat((2000, 2000), "JPEG"))
    )


def test_a_gif_costs_what_its_frame_takes_and_not_only_its_screen() -> None:
    small = create_gif((4, 4))
    assert predict(create_gif((4, 4), frame=(0, 0, 4000, 4000))) > 50 * predict(small)


def test_no_image_is_opened_to_predict_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [flat((50, 50), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert all(predict(data) > LEAST for data in images)


@given(
    start=st.sampled_from([flat((9, 9), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]),
    flips=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 255)), max_size=8),
    end=st.none() | st.integers(0, 200),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_header_has_a_cost_or_is_rejected(
    start: bytes, flips: list[tuple[int, int]], end: int | None
) -> None:
    data = bytearray(start)
    for position, bits in flips:
        data[position % len(data)] ^= bits
    with suppress(ImageError):
        assert predict(bytes(data[:end])) >= LEAST
