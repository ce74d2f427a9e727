from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from model.images.decoder import Decoder
from tests.model.images.image_files import (
    GREY,
    RGB,
    blocks,
    chunk,
    create_png,
    encode,
    noise,
    png_header,
)
from tests.model.images.test_decoder import WHITE, assert_same, values_of


def test_a_cmyk_jpeg_has_its_colours_and_not_their_negative(decoder: Decoder) -> None:
    cmyk = blocks().convert("CMYK")
    data = encode(cmyk, "JPEG", quality=95)
    assert_same(decoder.decode(data), cmyk, within=12)
    red, green, blue = (int(value) for value in values_of(decoder.decode(data))[8, 8])
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_grey_image_is_grey(decoder: Decoder, image_format: str) -> None:
    grey = blocks().convert("L")
    assert_same(decoder.decode(encode(grey, image_format, quality=95)), grey, within=3)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "GIF"])
def test_an_image_of_one_bit_is_black_and_white(decoder: Decoder, image_format: str) -> None:
    bits = blocks().convert("1")
    assert_same(decoder.decode(encode(bits, image_format)), bits)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "GIF"])
@pytest.mark.parametrize("colours", [2, 200])
def test_a_palette_has_its_colours(decoder: Decoder, image_format: str, colours: int) -> None:
    palette = noise().quantize(colours)
    assert_same(decoder.decode(encode(palette, image_format)), palette)


@pytest.mark.parametrize("depth", [2, 4])
def test_a_grey_png_of_few_bits_spans_black_to_white(decoder: Decoder, depth: int) -> None:
    row = bytes([0b00011011] if depth == 2 else [0x05, 0xAF])
    image = decoder.decode(create_png(png_header(4, 1, depth), [row]))
    assert values_of(image)[0, :, 0].tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, (200, 0, 100)), (128, (227, 127, 177)), (0, WHITE)]
)
def test_transparency_shows_white(
    decoder: Decoder, image_format: str, alpha: int, expected: tuple[int, int, int]
) -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 100, alpha))
    data = encode(image, image_format, lossless=True, exact=True)
    assert_same(decoder.decode(data), Image.new("RGB", (4, 4), expected), within=1)


def test_a_grey_image_s_transparency_shows_white(decoder: Decoder) -> None:
    image = Image.new("LA", (4, 4), (0, 128))
    expected = Image.new("RGB", (4, 4), (127, 127, 127))
    assert_same(decoder.decode(encode(image, "PNG")), expected, within=1)


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_palette_s_transparent_colour_shows_white(decoder: Decoder, image_format: str) -> None:
    palette = blocks().quantize(6)
    clear = palette.getpixel((0, 0))
    expected = blocks()
    expected.paste(WHITE, (0, 0, 16, 16))
    assert_same(decoder.decode(encode(palette, image_format, transparency=clear)), expected)


def test_a_palette_s_half_transparent_colours_are_mixed_with_white(decoder: Decoder) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 100, 0, 200, 100])
    palette.putpixel((1, 0), 1)
    data = encode(palette, "PNG", transparency=bytes([128, 255]))
    assert values_of(decoder.decode(data)).tolist() == [[[227, 127, 177], [0, 200, 100]]]


def test_an_rgb_png_s_key_colour_shows_white(decoder: Decoder) -> None:
    expected = blocks()
    expected.paste(WHITE, (0, 0, 16, 16))
    assert_same(decoder.decode(encode(blocks(), "PNG", transparency=(230, 30, 30))), expected)


def test_a_grey_png_s_key_shade_shows_white(decoder: Decoder) -> None:
    key = chunk(b"tRNS", struct.pack(">H", 80))
    data = create_png(png_header(3, 1), [bytes([10, 80, 160])], key)
    assert values_of(decoder.decode(data))[0, :, 0].tolist() == [10, 255, 160]


def test_a_16_bit_grey_png_equals_its_8_bit_version(decoder: Decoder) -> None:
    shades = np.arange(256)
    row = (shades * 257).astype(">u2").tobytes()
    deep = decoder.decode(create_png(png_header(256, 1, depth=16, colour=GREY), [row]))
    flat = decoder.decode(create_png(png_header(256, 1), [bytes(range(256))]))
    assert values_of(deep)[0, :, 0].tolist() == shades.tolist()
    assert_same(deep, flat)


def test_a_16_bit_rgb_png_equals_its_8_bit_version(decoder: Decoder) -> None:
    values = np.asarray(noise(7, 5))
    rows = [(row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in values]
    data = create_png(png_header(7, 5, depth=16, colour=RGB), rows)
    assert_same(decoder.decode(data), noise(7, 5))


@pytest.mark.parametrize(
    ("key", "expected"), [(0, [255, 200, 18, 18]), (0x1234, [0, 200, 255, 18])]
)
def test_only_the_very_grey_of_16_bits_that_a_png_names_is_transparent(
    decoder: Decoder, key: int, expected: list[int]
) -> None:
    row = struct.pack(">4H", 0, 200 << 8, 0x1234, 0x1235)
    named = chunk(b"tRNS", struct.pack(">H", key))
    image = decoder.decode(create_png(png_header(4, 1, depth=16), [row], named))
    assert values_of(image)[0, :, 0].tolist() == expected
