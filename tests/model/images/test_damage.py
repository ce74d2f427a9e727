from __future__ import annotations

import struct
import warnings
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ImageError, ImageTruncatedError, InvalidImageError
from model.images.decoder import DecodeLimits, Decoder
from tests.model.images.image_files import (
    PNG_SIGNATURE,
    chunk,
    create_gif,
    create_grey_png,
    create_png,
    encode,
    noise,
    patch_jpeg_size,
    png_header,
)

JPEG_START = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9)


@cache
def sound_images() -> dict[str, bytes]:
    image = noise(24, 16)
    palette = image.quantize(16)
    return {
        "jpeg": encode(image, "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "png": encode(image, "PNG"),
        "png-palette": encode(palette, "PNG", transparency=0),
        "webp": encode(image, "WEBP"),
        "webp-lossless": encode(image.convert("RGBA"), "WEBP", lossless=True),
        "gif": encode(palette, "GIF"),
        "gif-animated": encode(palette, "GIF", save_all=True, append_images=[image.quantize(8)]),
        "bmp": encode(image, "BMP"),
        "bmp-palette": encode(palette, "BMP"),
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_refused_as_truncated(
    decoder: Decoder, share: float, *, progressive: bool
) -> None:
    data = encode(noise(320, 240), "JPEG", progressive=progressive)
    with pytest.raises(ImageTruncatedError):
        decoder.decode(data[: int(len(data) * share)])


def test_a_jpeg_without_its_end_is_refused_as_truncated(decoder: Decoder) -> None:
    data = encode(noise(), "JPEG")
    assert data.endswith(b"\xff\xd9")
    with pytest.raises(ImageTruncatedError):
        decoder.decode(data[:-2])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF", "BMP"])
def test_a_cut_image_is_refused_as_truncated(
    decoder: Decoder, image_format: str, share: float
) -> None:
    data = encode(noise(160, 120), image_format)
    with pytest.raises(ImageTruncatedError):
        decoder.decode(data[: int(len(data) * share)])


def test_a_cut_lossless_webp_is_refused_as_truncated(decoder: Decoder) -> None:
    with pytest.raises(ImageTruncatedError):
        decoder.decode(encode(noise(), "WEBP", lossless=True)[:-1])


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_a_png_declares_but_does_not_hold_are_black(decoder: Decoder, rows: int) -> None:
    values = np.asarray(decoder.decode(create_grey_png(rows=rows)))
    assert values.shape == (4, 4, 3)
    assert not values[rows:].any()


def test_a_png_cut_between_two_chunks_is_refused_as_truncated(decoder: Decoder) -> None:
    data = encode(noise(320, 240), "PNG")
    with pytest.raises(ImageTruncatedError):
        decoder.decode(data[: data.rindex(b"IDAT") - 4])


def test_a_png_with_all_rows_but_no_end_is_decoded(decoder: Decoder) -> None:
    data = create_grey_png()
    assert decoder.decode(data[: -len(chunk(b"IEND", b""))]).size == (4, 4)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8", id="jpeg-start"),
        pytest.param(JPEG_START, id="jpeg-header"),
        pytest.param(PNG_SIGNATURE, id="png"),
        pytest.param(b"GIF87a", id="gif-87"),
        pytest.param(b"GIF89a", id="gif-89"),
        pytest.param(b"BM", id="bmp"),
        pytest.param(b"RIFF", id="riff"),
        pytest.param(b"RIFF\0\0\0\0WEBP", id="webp"),
    ],
)
def test_a_signature_alone_is_invalid(decoder: Decoder, data: bytes) -> None:
    with pytest.raises(InvalidImageError):
        decoder.decode(data)


def test_what_begins_like_one_format_is_not_tried_as_another(decoder: Decoder) -> None:
    photo_cd = b"PCD_OPA" + bytes(1539)  # its signature lies at 2048, and Pillow would look there
    with pytest.raises(InvalidImageError):
        decoder.decode(b"\xff\xd8".ljust(2048, b"\0") + photo_cd)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(png_header(0, 4), id="no-width"),
        pytest.param(png_header(4, 0), id="no-height"),
        pytest.param(png_header(4, 4, depth=3), id="unknown-depth"),
        pytest.param(png_header(4, 4, colour=5), id="unknown-colour"),
        pytest.param(png_header(4, 4)[:-1] + b"\0", id="bad-crc"),
    ],
)
def test_a_png_with_an_impossible_header_is_invalid(decoder: Decoder, header: bytes) -> None:
    with pytest.raises(InvalidImageError):
        decoder.decode(create_png(header, [bytes(4)] * 4))


def test_a_png_without_pixels_is_invalid(decoder: Decoder) -> None:
    with pytest.raises(InvalidImageError):
        decoder.decode(PNG_SIGNATURE + png_header(4, 4) + chunk(b"IEND", b""))


def test_a_png_whose_pixels_are_not_compressed_is_invalid(decoder: Decoder) -> None:
    body = png_header(4, 4) + chunk(b"IDAT", bytes(20)) + chunk(b"IEND", b"")
    with pytest.raises(InvalidImageError):
        decoder.decode(PNG_SIGNATURE + body)


def test_a_png_with_a_flipped_bit_is_invalid(decoder: Decoder) -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(InvalidImageError):
        decoder.decode(bytes(data))


def test_a_png_whose_pixels_do_not_match_their_crc_is_invalid(decoder: Decoder) -> None:
    data = bytearray(create_grey_png())
    data[-len(chunk(b"IEND", b"")) - 1] ^= 1
    with pytest.raises(InvalidImageError):
        decoder.decode(bytes(data))


@pytest.mark.parametrize("size", [(0, 0), (0, 4), (4, 0)], ids=str)
def test_a_gif_without_an_area_is_invalid(decoder: Decoder, size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImageError):
        decoder.decode(create_gif(size, frame=(0, 0, *size)))


def test_a_jpeg_without_a_height_is_invalid(decoder: Decoder) -> None:
    with pytest.raises(InvalidImageError):
        decoder.decode(patch_jpeg_size(encode(noise(), "JPEG"), 80, 0))


@pytest.mark.parametrize("process", [1, 3, 11], ids=["12-bit", "lossless", "lossless-arithmetic"])
def test_a_jpeg_of_another_process_is_refused(decoder: Decoder, process: int) -> None:
    data = encode(noise(), "JPEG")
    frame = data.index(b"\xff\xc0")
    changed = bytearray(data)
    changed[frame + 1] = 0xC0 + process
    if process == 1:
        changed[frame + 4] = 12
    with pytest.raises(ImageError):
        decoder.decode(bytes(changed))


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000))), id="zTXt"),
        pytest.param(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))), id="iCCP"),
        pytest.param(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(5_000_000))), id="iTXt"),
        pytest.param(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 80, id="many"),
    ],
)
def test_a_png_whose_text_inflates_without_end_is_refused(decoder: Decoder, bomb: bytes) -> None:
    with pytest.raises(ImageError):
        decoder.decode(create_grey_png(bomb))
    late = create_grey_png()[: -len(chunk(b"IEND", b""))] + bomb + chunk(b"IEND", b"")
    with pytest.raises(ImageError):
        decoder.decode(late)


def test_what_is_said_of_a_broken_image_names_no_addresses(decoder: Decoder) -> None:
    with pytest.raises(InvalidImageError) as caught:
        decoder.decode(JPEG_START)
    assert "0x" not in str(caught.value)


@given(
    name=st.sampled_from(sorted(sound_images())),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=6),
    end=st.none() | st.integers(0, 2_000),
    insertion=st.tuples(st.integers(0, 2_000), st.binary(max_size=8)),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_mutated_image_is_decoded_or_refused_and_nothing_else(
    name: str, flips: list[tuple[int, int]], end: int | None, insertion: tuple[int, bytes]
) -> None:
    data = bytearray(sound_images()[name])
    for position, bits in flips:
        data[position % len(data)] ^= bits
    data[insertion[0] : insertion[0]] = insertion[1]
    decoder = Decoder(DecodeLimits(max_pixels=1_000_000, max_side=5_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a server, where a warning stops nothing
        try:
            image = decoder.decode(bytes(data[:end]))
        except ImageError:
            return
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= 1_000_000


@given(data=st.binary(max_size=200), start=st.sampled_from([b"", JPEG_START, PNG_SIGNATURE]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_bytes_are_refused_as_an_image_error(data: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        Decoder(DecodeLimits()).decode(start + data)


def test_a_gif_frame_without_pixels_is_refused(decoder: Decoder) -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0)
    with pytest.raises(ImageError):
        decoder.decode(screen + b";")
