from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.images.pixels import MAX_RESIZED_PIXELS, needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.model.transformers_answers import make
from tests.model.transformers_answers.make import (
    CASES,
    create_preprocessing,
    digest,
    noise,
    reference_pixels,
)
from tests.model.twins import size_id

DEFAULT = Preprocessing()
STORED = make.load("pixels")
EXTREMES = ((1, 16384), (16384, 1), (1, 5000), (5000, 1), (3, 9000), (9000, 3), (7, 16383))
"""Images as (width, height)."""


def assert_same_pixels(image: Image.Image, preprocessing: Preprocessing = DEFAULT) -> None:
    pixels = preprocess(image, preprocessing)
    expected = reference_pixels(image, preprocessing)
    assert pixels.dtype == expected.dtype == np.uint8
    assert np.array_equal(pixels, expected)


@pytest.fixture
def resized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pixels of every image that is made by resizing."""
    pixels: list[int] = []
    resize = Image.Image.resize

    def record(image: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        pixels.append(size[0] * size[1])
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", record)
    return pixels


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_of_transformers(case: str) -> None:
    size, preprocessing = CASES[case]
    assert digest(preprocess(noise(size), preprocessing)) == STORED["noise"][case]


@pytest.mark.parametrize("number", range(3), ids=["cat", "coffee", "rocket"])
def test_photos_are_the_pixels_of_transformers(photos: list[Image.Image], number: int) -> None:
    assert digest(preprocess(photos[number], DEFAULT)) == STORED["photos"][number]


@pytest.mark.thorough
def test_the_stored_pixels_are_those_of_transformers(photos: list[Image.Image]) -> None:
    assert make.pixels(photos) == STORED


@pytest.mark.thorough
@given(short=st.integers(1, 400), aspect=st.floats(1, 15), portrait=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_pixels_of_any_ordinary_image_are_those_of_transformers(
    *, short: int, aspect: float, portrait: bool
) -> None:
    long = min(round(short * aspect), 1500)
    assert_same_pixels(noise((short, max(short, long)) if portrait else (max(short, long), short)))


@pytest.mark.parametrize("side", [32, 33, 128, 160, 192, 223, 225, 448, 511, 512])
def test_another_side_keeps_the_proportion_of_the_short_side(side: int, resized: list[int]) -> None:
    short = round(side * 256 / 224)
    square = noise((300, 300))
    pixels = preprocess(square, DEFAULT.with_side(side))
    assert pixels.shape == (side, side, 3)
    assert resized == [short * short]
    assert np.array_equal(pixels, preprocess(square, create_preprocessing(short, side)))


def test_the_checkpoint_s_own_side_changes_nothing() -> None:
    image = noise((640, 427))
    assert np.array_equal(preprocess(image, DEFAULT.with_side(224)), preprocess(image, DEFAULT))


@pytest.mark.parametrize("side", [None, 32, 512])
@pytest.mark.parametrize("size", EXTREMES, ids=size_id)
def test_an_extreme_image_is_never_resized_beyond_the_bound(
    size: tuple[int, int], side: int | None, resized: list[int]
) -> None:
    pixels = preprocess(Image.new("RGB", size, (200, 100, 50)), DEFAULT.with_side(side))
    assert pixels.shape == (side or 224, side or 224, 3)
    assert (pixels == (200, 100, 50)).all()
    assert len(resized) == 1
    assert resized[0] <= MAX_RESIZED_PIXELS == 4_000_000


def test_a_checkpoint_may_ask_for_a_square_of_the_bound(resized: list[int]) -> None:
    preprocess(Image.new("RGB", (1000, 1000)), create_preprocessing(2000, 2000))
    assert resized == [MAX_RESIZED_PIXELS]


@pytest.mark.parametrize("shortest_edge", [2001, 4096])
def test_a_checkpoint_that_asks_for_more_than_the_bound_is_refused(shortest_edge: int) -> None:
    with pytest.raises(ValueError, match=r"size\.shortest_edge"):
        create_preprocessing(shortest_edge, 224)


@pytest.mark.parametrize("side", [None, 512])
@pytest.mark.parametrize("size", [(16384, 1), (5000, 1), (9000, 3), (16382, 7)], ids=size_id)
def test_an_extreme_image_keeps_its_centre(size: tuple[int, int], side: int | None) -> None:
    width, height = size
    image = Image.new("RGB", size, "red")
    image.paste("blue", (width // 2, 0, width, height))
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    wide, tall = (
        preprocess(image, DEFAULT.with_side(side)),
        preprocess(turned, DEFAULT.with_side(side)),
    )
    assert np.array_equal(wide, tall.transpose(1, 0, 2))
    middle = len(wide) // 2
    assert (wide[:, : middle - 4, 0] >= wide[:, : middle - 4, 2]).all()
    assert (wide[:, middle + 4 :, 0] <= wide[:, middle + 4 :, 2]).all()
    assert wide[:, 0, 0].min() > wide[:, 0, 2].max()
    assert wide[:, -1, 2].min() > wide[:, -1, 0].max()


@pytest.mark.thorough
@pytest.mark.parametrize("size", [(10, 620), (620, 10), (20, 1300), (1300, 20)], ids=size_id)
def test_an_image_cut_for_its_length_shows_what_transformers_shows(size: tuple[int, int]) -> None:
    difference = preprocess(noise(size), DEFAULT).astype(int) - reference_pixels(
        noise(size), DEFAULT
    )
    assert np.abs(difference).max() <= 1


def sizes(smallest: int) -> st.SearchStrategy[dict[str, int]]:
    side = st.integers(smallest, 300)
    return st.fixed_dictionaries({"height": side, "width": side})


@pytest.mark.thorough
@given(
    image_size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    do_resize=st.booleans(),
    size=sizes(1) | st.fixed_dictionaries({"shortest_edge": st.integers(1, 300)}),
    crop_size=sizes(32),
    resample=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_pixels_of_any_configuration_with_a_crop_are_those_of_transformers(
    image_size: tuple[int, int], **document: Any
) -> None:
    assume(max(image_size) <= 15 * min(image_size))
    assert_same_pixels(noise(image_size), Preprocessing.model_validate(document))


@pytest.mark.thorough
@given(
    image_size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    size=sizes(32),
    resample=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_pixels_of_any_configuration_without_a_crop_are_those_of_transformers(
    image_size: tuple[int, int], **document: Any
) -> None:
    preprocessing = Preprocessing.model_validate(document | {"do_center_crop": False})
    assert_same_pixels(noise(image_size), preprocessing)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"do_resize": False},
        {"size": {"height": 200, "width": 300}},
        {"crop_size": {"height": 100, "width": 224}},
        {"size": {"height": 100, "width": 50}, "do_center_crop": False},
        {"size": {"shortest_edge": 2000}, "crop_size": 32},
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [32, 100, 512])
def test_another_side_gives_a_square_whatever_the_configuration(
    document: dict[str, Any], side: int, resized: list[int]
) -> None:
    preprocessing = Preprocessing.model_validate(document)
    assert preprocess(noise((320, 200)), preprocessing.with_side(side)).shape == (side, side, 3)
    assert all(pixels <= 2 * MAX_RESIZED_PIXELS for pixels in resized)


def test_a_rectangle_of_another_side_is_resized_in_proportion(resized: list[int]) -> None:
    preprocessing = Preprocessing.model_validate(
        {"size": {"height": 200, "width": 300}, "crop_size": {"height": 100, "width": 200}}
    )
    preprocess(noise((50, 50)), preprocessing.with_side(50))
    assert resized == [100 * 75]


@pytest.mark.parametrize("side", [None, 32, 100, 512])
@pytest.mark.parametrize(
    "document",
    [
        {},
        {"size": {"shortest_edge": 300}, "crop_size": 128},
        {"size": {"height": 200, "width": 300}},
        {"size": {"height": 100, "width": 50}, "do_center_crop": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(641, 427), (427, 641), (300, 300)], ids=size_id)
def test_the_needed_size_is_what_the_image_is_resized_to(
    size: tuple[int, int], document: dict[str, Any], side: int | None, resized: list[int]
) -> None:
    preprocessing = Preprocessing.model_validate(document)
    width, height = needed_size(size, preprocessing.with_side(side)) or (0, 0)
    preprocess(noise(size), preprocessing.with_side(side))
    assert resized == [width * height]
    if "shortest_edge" in document.get("size", {"shortest_edge"}):
        assert (width > height) == (size[0] > size[1])


def test_an_image_cut_for_its_length_is_needed_as_if_it_were_not() -> None:
    assert needed_size((1024, 65536), DEFAULT) == (256, 16384)
    assert needed_size((65536, 1024), DEFAULT.with_side(512)) == (37440, 585)


@pytest.mark.parametrize("document", [{"do_resize": False}, {"resample": 0}], ids=str)
@pytest.mark.parametrize("side", [None, 32])
def test_an_image_of_which_single_pixels_are_taken_is_needed_as_it_is(
    document: dict[str, Any], side: int | None
) -> None:
    assert needed_size((4000, 3000), Preprocessing.model_validate(document).with_side(side)) is None
