from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from model.errors import UnsupportedImageFormatError
from model.images.decoder import Decoder
from model.images.formats.table import read_header, sniff
from tests.model.images.image_files import (
    blocks,
    create_bmp,
    create_exif,
    create_gif,
    create_interlaced_png,
    encode,
    noise,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Values = NDArray[np.uint8]

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}}
WHITE = (255, 255, 255)
STORED: dict[int, Callable[[Values], Values]] = {  # how a camera stores what is seen, by EXIF
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}


def values_of(image: Image.Image) -> Values:
    assert image.mode == "RGB"
    return np.asarray(image)


def assert_same(image: Image.Image, expected: Image.Image, within: int = 0) -> None:
    assert image.size == expected.size
    difference = values_of(image).astype(int) - values_of(expected.convert("RGB"))
    assert np.abs(difference).max() <= within


def assert_shows_blocks(image: Image.Image) -> None:
    """Look at the middles of the squares only: a lossy format blurs their edges."""
    assert image.size == blocks().size
    middles = (slice(8, None, 16), slice(8, None, 16))
    difference = values_of(image)[middles].astype(int) - values_of(blocks())[middles]
    assert np.abs(difference).max() <= 12


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_a_lossless_image_is_decoded_as_it_was(decoder: Decoder, image_format: str) -> None:
    data = encode(noise(), image_format, **LOSSLESS[image_format])
    assert sniff(data) == image_format
    assert_same(decoder.decode(data), noise())


@pytest.mark.parametrize(
    "options",
    [{"subsampling": 2}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_blocks": 1}],
    ids=str,
)
def test_a_jpeg_is_decoded(decoder: Decoder, options: dict[str, Any]) -> None:
    data = encode(blocks(), "JPEG", quality=95, **options)
    assert sniff(data) == "JPEG"
    assert_shows_blocks(decoder.decode(data))


def test_a_lossy_webp_is_decoded(decoder: Decoder) -> None:
    assert_shows_blocks(decoder.decode(encode(blocks(), "WEBP", quality=95)))


def test_a_gif_is_decoded(decoder: Decoder) -> None:
    assert_same(decoder.decode(encode(blocks(), "GIF")), blocks())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_junk_after_an_image_is_ignored(decoder: Decoder, image_format: str) -> None:
    data = encode(blocks(), image_format)
    assert_same(decoder.decode(data + b"PK\x03\x04" + bytes(1024)), decoder.decode(data))


@pytest.mark.parametrize("side", [1, 8])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_tiny_image_is_decoded(decoder: Decoder, image_format: str, side: int) -> None:
    data = encode(Image.new("RGB", (side, side), (200, 200, 200)), image_format)
    assert_same(decoder.decode(data), Image.new("RGB", (side, side), (200, 200, 200)), within=2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="one-byte"),
        pytest.param(b"hello, world", id="text"),
        pytest.param(b"<!doctype html><img src=x>", id="html"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', id="svg"),
        pytest.param(b'{"url": "http://127.0.0.1/"}', id="json"),
        pytest.param(b"PK\x03\x04" + bytes(64), id="zip"),
        pytest.param(b"%PDF-1.7\n", id="pdf"),
        pytest.param(b"\x7fELF" + bytes(64), id="elf"),
        pytest.param(b"\x1f\x8b\x08" + bytes(64), id="gzip"),
        pytest.param(b"\0\0\0\x1cftypavif" + bytes(64), id="avif"),
        pytest.param(b"\0\0\0\x18ftypheic" + bytes(64), id="heic"),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), id="jpeg-2000"),
        pytest.param(b"8BPS\0\x01" + bytes(64), id="psd"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt " + bytes(64), id="wave"),
        pytest.param(b"\n" + encode(blocks(), "JPEG"), id="line-break-and-jpeg"),
        pytest.param(np.random.default_rng(0).bytes(2500), id="random"),
        pytest.param(b"\x80\x04\x95" + bytes(64), id="pickle"),
    ],
)
def test_what_begins_like_no_allowed_format_is_unsupported(decoder: Decoder, data: bytes) -> None:
    assert sniff(data) is None
    with pytest.raises(UnsupportedImageFormatError):
        decoder.decode(data)


@pytest.mark.parametrize("image_format", ["TIFF", "PPM", "JPEG2000", "AVIF"])
def test_an_image_of_another_format_is_unsupported(decoder: Decoder, image_format: str) -> None:
    with pytest.raises(UnsupportedImageFormatError):
        decoder.decode(encode(blocks(), image_format))


@pytest.mark.parametrize(
    ("image_format", "orientation"),
    [*(("JPEG", orientation) for orientation in STORED), ("PNG", 6), ("WEBP", 6)],
)
def test_a_turned_image_is_turned_upright(
    decoder: Decoder, image_format: str, orientation: int
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(blocks()))))
    options = {"lossless": True} if image_format == "WEBP" else {"quality": 95}
    exif = create_exif(struct.pack("<H", orientation))
    data = encode(stored, image_format, exif=exif, **options)
    with decoder.open(read_header(data)) as decoded:
        assert_shows_blocks(decoded.image)
        assert decoded.size == blocks().size
        assert decoded.box == (0, 0, *blocks().size)


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_turned_image_keeps_its_transparency(decoder: Decoder, orientation: int) -> None:
    seen = np.dstack([np.asarray(blocks()), np.full((32, 48), 255, np.uint8)])
    seen[:16, :16, 3] = 0
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](seen)))
    data = encode(stored, "PNG", exif=create_exif(struct.pack("<H", orientation)))
    expected = blocks()
    expected.paste(WHITE, (0, 0, 16, 16))
    assert_same(decoder.decode(data), expected)


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(create_exif(b"\0\0"), id="0"),
        pytest.param(create_exif(b"\x09\0"), id="9"),
        pytest.param(create_exif(b"\xff\xff"), id="65535"),
        pytest.param(create_exif(b"abc\0", kind=2, count=4), id="string"),
        pytest.param(create_exif(b"\x06\0\x06\0", count=2), id="two-values"),
        pytest.param(create_exif(struct.pack("<f", 6), kind=11), id="float"),
        pytest.param(create_exif(b"\xff\xff\xff\xff", kind=5), id="fraction-outside"),
        pytest.param(create_exif(b"\x06\0", kind=99), id="unknown-type"),
        pytest.param(create_exif(b"\x06\0")[:20], id="truncated"),
        pytest.param(b"Exif\0\0", id="empty"),
        pytest.param(b"Exif\0\0" + np.random.default_rng(2).bytes(200), id="garbage"),
        pytest.param(b"Exif\0\0II*\0" + b"\xff" * 40, id="offset-outside"),
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" * 20, id="endless"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, and it reads on
@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")  # the same of a value
def test_an_orientation_that_says_nothing_leaves_the_image_upright(
    decoder: Decoder, exif: bytes
) -> None:
    data = encode(blocks(), "JPEG", quality=95, exif=exif)
    assert_shows_blocks(decoder.decode(data))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (21, 13)])
def test_an_interlaced_png_equals_its_plain_version(
    decoder: Decoder, width: int, height: int
) -> None:
    data = create_interlaced_png(np.asarray(noise(width, height)))
    assert_same(decoder.decode(data), noise(width, height))


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(decoder: Decoder, image_format: str) -> None:
    first, *others = (Image.new("RGB", (8, 8), name) for name in ("red", "lime", "blue"))
    data = encode(first, image_format, save_all=True, append_images=others, lossless=True)
    assert_same(decoder.decode(data), first)


def test_an_mpo_is_its_first_image(decoder: Decoder) -> None:
    data = encode(blocks(), "MPO", save_all=True, append_images=[noise()], quality=95)
    assert sniff(data) == "JPEG"
    assert_shows_blocks(decoder.decode(data))


def test_a_gif_frame_smaller_than_the_screen_is_laid_on_it(decoder: Decoder) -> None:
    image = decoder.decode(create_gif((3, 2), frame=(1, 0, 1, 1)))
    assert image.size == (3, 2)
    assert image.getpixel((1, 0)) == (255, 0, 0)


def test_a_bmp_with_its_first_row_first_is_upright(decoder: Decoder) -> None:
    rows = b"\xff\0\0\0" + b"\0\0\xff\0"  # one blue pixel, one red pixel, padded to four bytes
    assert values_of(decoder.decode(create_bmp(1, -2, rows)))[:, 0, 0].tolist() == [0, 255]
    assert values_of(decoder.decode(create_bmp(1, 2, rows)))[:, 0, 0].tolist() == [255, 0]
