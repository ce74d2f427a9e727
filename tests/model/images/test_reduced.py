from __future__ import annotations

import struct
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from model.errors import ImageTooComplexError, ImageTooLargeError, ImageTruncatedError
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from model.images.pixels import needed_size, preprocess
from model.images.preprocessor_config import Preprocessing
from tests.model.images.image_files import add_scans, blocks, create_exif, encode, noise
from tests.model.twins import size_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.images.decoded_image import DecodedImage, NeededSize

Size = tuple[int, int]

DEFAULT = partial(needed_size, preprocessing=Preprocessing())
"""What the default checkpoint needs: a short side of 256."""


def need(width: int, height: int) -> Callable[[Size], Size]:
    return lambda _: (width, height)


def big_blocks(factor: int = 32) -> Image.Image:
    return blocks().resize((48 * factor, 32 * factor), Image.Resampling.NEAREST)


def flat(size: Size) -> bytes:
    return encode(Image.new("L", size, 128), "JPEG")


def assert_close(image: Image.Image, expected: Image.Image, within: int) -> None:
    """Compare the middles of the six squares of `blocks`, at whatever size."""
    assert image.mode == "RGB"
    middles = [
        np.asarray(one.convert("RGB").resize((3, 2), Image.Resampling.BOX)).astype(int)
        for one in (image, expected)
    ]
    assert np.abs(middles[0] - middles[1]).max() <= within


@pytest.fixture
def reserved(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of the budget that are taken at each load of an image."""
    taken: list[int] = []
    load = ImageFile.ImageFile.load

    def record(image: ImageFile.ImageFile) -> Any:
        if image.tile:
            taken.append(decoder.limits.max_bytes_at_once - decoder._budget.free)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", record)
    return taken


def decode_reduced(decoder: Decoder, data: bytes, needed: NeededSize) -> DecodedImage:
    with decoder.open(read_header(data), needed) as decoded:
        return decoded


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((1023, 1023), (1023, 1023)),
        ((1024, 1024), (512, 512)),
        ((1025, 1537), (513, 769)),
        ((1365, 1024), (683, 512)),
        ((2047, 2047), (1024, 1024)),
        ((2048, 2048), (512, 512)),
        ((4000, 3000), (1000, 750)),
        ((3000, 4000), (750, 1000)),
        ((4095, 4095), (1024, 1024)),
        ((4096, 4096), (512, 512)),
        ((16_000, 1023), (16_000, 1023)),
        ((1024, 16_000), (512, 8_000)),
    ],
    ids=size_id,
)
def test_a_big_jpeg_is_decoded_at_the_smallest_size_that_is_twice_the_needed_one(
    decoder: Decoder, size: Size, decoded: Size
) -> None:
    assert decode_reduced(decoder, flat(size), DEFAULT).image.size == decoded


@pytest.mark.thorough
@given(
    size=st.tuples(st.integers(1000, 2500), st.integers(1000, 2500)),
    needed=st.tuples(st.integers(1, 800), st.integers(1, 800)),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_twice_the_needed_size_is_always_left_and_never_twice_as_much_without_need(
    size: Size, needed: Size
) -> None:
    decoded = decode_reduced(Decoder(DecodeLimits()), flat(size), need(*needed)).image.size
    scale = next(s for s in (1, 2, 4, 8) if decoded == tuple(-(-side // s) for side in size))
    margins = [side / wanted for side, wanted in zip(decoded, needed, strict=True)]
    if scale > 1:
        assert min(margins) >= 2
    if scale < 8:
        assert min(side / wanted for side, wanted in zip(size, needed, strict=True)) < 4 * scale


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_needed_is_told_of_the_upright_image(decoder: Decoder, orientation: int) -> None:
    asked: list[Size] = []

    def needs_its_width(size: Size) -> Size:
        asked.append(size)
        return 750, 100  # 1/2 where the image is 3000 wide, and all of it where it is 1500

    exif = create_exif(struct.pack("<H", orientation))
    stored = (1500, 3000) if orientation >= 5 else (3000, 1500)
    data = encode(Image.new("L", stored), "JPEG", exif=exif)
    assert decode_reduced(decoder, data, needs_its_width).image.size == (1500, 750)
    assert asked == [(3000, 1500)]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_reduced_image_is_upright(decoder: Decoder, orientation: int) -> None:
    turn = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    stored = big_blocks().rotate(turn, expand=True)
    data = encode(stored, "JPEG", exif=create_exif(struct.pack("<H", orientation)), quality=95)
    image = decode_reduced(decoder, data, DEFAULT).image
    assert image.size == (768, 512)
    assert_close(image, blocks(), within=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1541, 1025)], ids=size_id)
def test_a_reduced_image_lies_where_the_full_one_does(
    decoder: Decoder, size: Size, orientation: int
) -> None:
    soft = noise(24, 16).resize(size, Image.Resampling.BICUBIC)
    exif = create_exif(struct.pack("<H", orientation))
    data = encode(soft, "JPEG", quality=95, subsampling=0, exif=exif)
    reduced, full = decode_reduced(decoder, data, DEFAULT), decoder.decode(data)
    assert reduced.size == full.size
    assert reduced.image.width < full.width
    pixels = [preprocess(one, Preprocessing()).astype(int) for one in (reduced, full)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 2


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *[("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"restart_marker_blocks": 7})],
        *[("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})],
    ],
    ids=str,
)
def test_every_kind_of_jpeg_keeps_its_colours(
    decoder: Decoder, mode: str, options: dict[str, Any]
) -> None:
    data = encode(big_blocks().convert(mode), "JPEG", quality=95, **options)
    image = decode_reduced(decoder, data, DEFAULT).image
    assert image.size == (768, 512)
    assert_close(image, decoder.decode(data), within=2)


def test_an_mpo_is_reduced_too(decoder: Decoder) -> None:
    data = encode(big_blocks(), "MPO", save_all=True, append_images=[blocks()], quality=95)
    image = decode_reduced(decoder, data, DEFAULT).image
    assert image.size == (768, 512)
    assert_close(image, blocks(), within=4)


@pytest.mark.parametrize(
    "needed_size",
    [lambda _: None, need(769, 100), need(100, 513), need(5000, 5000)],
    ids=["every-pixel", "half-its-width", "half-its-height", "more"],
)
def test_a_jpeg_that_is_needed_as_it_is_has_every_value_that_it_has(
    decoder: Decoder, needed_size: Callable[[Size], Size | None]
) -> None:
    data = encode(noise(1536, 1024), "JPEG", quality=90)
    with Image.open(BytesIO(data)) as expected:
        values = np.asarray(expected)
    decoded = decode_reduced(decoder, data, needed_size)
    assert np.array_equal(np.asarray(decoded.image), values)
    assert (decoded.size, decoded.box) == ((1536, 1024), (0, 0, 1536, 1024))
    assert np.array_equal(np.asarray(decoder.decode(data)), values)


@pytest.mark.parametrize("size", [(1000, 999), (600, 400)], ids=size_id)
def test_a_jpeg_under_a_megapixel_is_never_reduced(decoder: Decoder, size: Size) -> None:
    assert decode_reduced(decoder, flat(size), need(10, 10)).image.size == size
    assert decode_reduced(decoder, flat((1000, 1000)), need(10, 10)).image.size == (125, 125)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_have_their_own_size(decoder: Decoder, image_format: str) -> None:
    data = encode(Image.new("L", (1024, 1024)), image_format)
    assert decode_reduced(decoder, data, DEFAULT).image.size == (1024, 1024)


def test_the_limits_are_of_the_full_size() -> None:
    limits = {"max_pixels": 1024 * 1024 - 1}, {"max_side": 1023}
    for one in limits:
        with pytest.raises(ImageTooLargeError):
            decode_reduced(Decoder(DecodeLimits(**one)), flat((1024, 1024)), DEFAULT)
    data = encode(Image.new("L", (4_000, 3_000)), "JPEG", progressive=True)
    with pytest.raises(ImageTooComplexError):
        decode_reduced(Decoder(DecodeLimits()), add_scans(data, 60), DEFAULT)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_half_a_big_jpeg_is_truncated(
    decoder: Decoder, options: dict[str, Any], left: float
) -> None:
    data = encode(noise(1200, 1100), "JPEG", **options)
    with pytest.raises(ImageTruncatedError):
        decode_reduced(decoder, data[: int(len(data) * left)], DEFAULT)


def test_a_reduced_image_takes_the_memory_of_its_reduced_size(
    decoder: Decoder, reserved: list[int]
) -> None:
    data = flat((4000, 3000))
    decode_reduced(decoder, data, DEFAULT)
    decoder.decode(data)
    assert reserved == [len(data) + 8 * pixels for pixels in (1000 * 750, 4000 * 3000)]


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize(
    ("mode", "subsampling", "samples"), [("RGB", 0, 3), ("RGB", 1, 2), ("RGB", 2, 1.5), ("L", 0, 1)]
)
def test_a_progressive_image_takes_the_memory_of_its_coefficients_besides(
    decoder: Decoder,
    reserved: list[int],
    mode: str,
    subsampling: int,
    samples: float,
    *,
    reduced: bool,
) -> None:
    data = encode(Image.new(mode, (2000, 1500)), "JPEG", progressive=True, subsampling=subsampling)
    image = decode_reduced(decoder, data, DEFAULT).image if reduced else decoder.decode(data)
    pixels, coefficients = image.width * image.height, 2000 * 1500 * samples
    assert reserved == [len(data) + max(4 * pixels + 2 * coefficients, 8 * pixels)]


def test_a_thumbnail_s_scan_is_none_of_the_image(decoder: Decoder, reserved: list[int]) -> None:
    thumbnails = b"Exif\0\0" + b"\xff\xda" * 200
    data = encode(Image.new("RGB", (100, 50)), "JPEG", exif=thumbnails, subsampling=0)
    decoder.decode(data)
    assert reserved == [len(data) + 8 * 100 * 50]
