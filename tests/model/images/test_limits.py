from __future__ import annotations

import threading
import warnings
from concurrent.futures import Future
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import pytest
from PIL import Image, ImageFile

from model.errors import (
    AbandonedError,
    ImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from model.images.decoder import DecodeLimits, Decoder
from model.images.formats.table import read_header
from tests.fakes import watch_waiting
from tests.model.images.image_files import (
    RGB,
    add_scans,
    chunk,
    create_bmp,
    create_gif,
    create_grey_png,
    create_png,
    encode,
    noise,
    patch_jpeg_size,
    png_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 30
"""How long a thread that ought to come may take: a bound for a failing test, not a measurement."""


def teal(width: int, height: int) -> bytes:
    return encode(Image.new("RGB", (width, height), "teal"), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(create_png(png_header(20_000, 20_000), []), id="png-20000x20000"),
        pytest.param(create_png(png_header(12_000, 12_000), []), id="png-12000x12000"),
        pytest.param(create_png(png_header(0xFFFFFFFF, 1), []), id="png-endless-width"),
        pytest.param(create_png(png_header(1, 0xFFFFFFFF), []), id="png-endless-height"),
        pytest.param(create_png(png_header(5_001, 5_000, colour=RGB), []), id="png-25-megapixels"),
        pytest.param(patch_jpeg_size(encode(noise(), "JPEG"), 9_000, 9_000), id="jpeg-9000x9000"),
        pytest.param(
            patch_jpeg_size(encode(noise(), "JPEG"), 65_500, 65_500), id="jpeg-65500x65500"
        ),
        pytest.param(create_gif((65_535, 65_535)), id="gif-65535x65535"),
        pytest.param(create_gif((13_000, 13_000)), id="gif-13000x13000"),
        pytest.param(create_gif((4, 4), frame=(0, 0, 9_000, 9_000)), id="gif-frame-9000x9000"),
        pytest.param(create_bmp(30_000, 30_000), id="bmp-30000x30000"),
        pytest.param(create_bmp(30_000, -30_000), id="bmp-30000x30000-top-down"),
        pytest.param(create_bmp(0x7FFFFFFF, 1), id="bmp-endless-width"),
    ],
)
@pytest.mark.parametrize("action", ["error", "ignore"], ids="warning-is-{}".format)
def test_an_image_that_says_it_is_huge_is_too_large(
    decoder: Decoder, data: bytes, action: Literal["error", "ignore"]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(ImageTooLargeError):
            decoder.decode(data)


@pytest.mark.parametrize("size", [(16_385, 1), (1, 16_385)], ids=str)
def test_a_side_beyond_the_limit_is_too_large(decoder: Decoder, size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError, match=f"{size[0]}x{size[1]}"):
        decoder.decode(teal(*size))


@pytest.mark.parametrize("size", [(16_384, 1), (1, 16_384)], ids=str)
def test_a_side_at_the_limit_is_decoded(decoder: Decoder, size: tuple[int, int]) -> None:
    assert decoder.decode(teal(*size)).size == size


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize(
    ("size", "allowed"),
    [((48, 32), True), ((32, 48), True), ((48, 33), False), ((33, 48), False), ((49, 1), False)],
    ids=str,
)
def test_the_limits_are_met_exactly(
    image_format: str, size: tuple[int, int], *, allowed: bool
) -> None:
    decoder = Decoder(DecodeLimits(max_pixels=48 * 32, max_side=48))
    data = encode(Image.new("RGB", size, "teal"), image_format)
    if allowed:
        assert decoder.decode(data).size == size
    else:
        with pytest.raises(ImageTooLargeError):
            decoder.decode(data)


def test_no_pixel_of_an_image_too_large_is_decoded(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ImageTooLargeError):
        decoder.decode(patch_jpeg_size(encode(noise(), "JPEG"), 9_000, 9_000))


def test_an_ordinary_progressive_jpeg_is_decoded(decoder: Decoder) -> None:
    data = encode(noise(640, 480), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    assert decoder.decode(data).size == (640, 480)


def test_a_jpeg_with_a_few_scans_more_is_decoded(decoder: Decoder) -> None:
    data = add_scans(encode(noise(), "JPEG", progressive=True), 20)
    assert decoder.decode(data).size == noise().size


@pytest.mark.parametrize("scans", [1_000, 100_000])
def test_a_jpeg_with_a_thousand_scans_is_too_complex(decoder: Decoder, scans: int) -> None:
    data = add_scans(encode(noise(8, 8), "JPEG", progressive=True), scans)
    with pytest.raises(ImageTooComplexError):
        decoder.decode(data)


def test_a_large_jpeg_may_have_fewer_scans_than_a_small_one(decoder: Decoder) -> None:
    small = add_scans(encode(noise(), "JPEG", progressive=True), 60)
    assert decoder.decode(small).size == noise().size
    with pytest.raises(ImageTooComplexError):
        decoder.decode(
            add_scans(encode(Image.new("L", (4_000, 3_000)), "JPEG", progressive=True), 60)
        )


def test_no_scan_of_a_jpeg_too_complex_is_decoded(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ImageTooComplexError):
        decoder.decode(add_scans(encode(noise(), "JPEG", progressive=True), 1_000))


@pytest.mark.parametrize(
    ("kind", "body"),
    [(b"tEXt", b"a\0b"), (b"IDAT", b""), (b"tIME", bytes(7)), (b"prVt", b"")],
    ids=["text", "pixels", "time", "private"],
)
def test_a_png_of_very_many_chunks_is_too_complex(
    decoder: Decoder, kind: bytes, body: bytes
) -> None:
    with pytest.raises(ImageTooComplexError):
        decoder.decode(create_grey_png(chunk(kind, body) * 100_000))


def test_a_png_of_many_chunks_is_decoded(decoder: Decoder) -> None:
    assert decoder.decode(create_grey_png(chunk(b"tEXt", b"a\0b") * 500)).size == (4, 4)


ONE = 10 * 10 * 8 + len(teal(10, 10))
"""Bytes that a small PNG takes at most: two images of four bytes a pixel, and its file."""


def decode_aside(decoder: Decoder, data: bytes) -> Future[Image.Image]:
    """Decode in a thread that may hang without holding up the end of the tests."""
    decoded: Future[Image.Image] = Future()

    def decode() -> None:
        try:
            decoded.set_result(decoder.decode(data))
        except ImageError as error:
            decoded.set_exception(error)

    threading.Thread(target=decode, daemon=True).start()
    return decoded


def watch_loads(monkeypatch: pytest.MonkeyPatch, while_loading: Callable[[], object]) -> list[int]:
    """Call something in every first load of an image; returns how many were inside at once."""
    lock, inside, seen = threading.Lock(), [0], [0]
    load = ImageFile.ImageFile.load

    def watched(image: ImageFile.ImageFile) -> Any:
        if not image.tile:
            return load(image)
        with lock:
            inside[0] += 1
            seen[0] = max(seen[0], inside[0])
        try:
            while_loading()
            return load(image)
        finally:
            with lock:
                inside[0] -= 1

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    return seen


def test_a_second_image_waits_until_the_first_leaves_it_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = Decoder(DecodeLimits(max_bytes_at_once=ONE + ONE // 2))
    loading, finish = threading.Event(), threading.Event()

    def hold() -> None:
        loading.set()
        assert finish.wait(WAIT_S)

    most = watch_loads(monkeypatch, hold)
    waiting = watch_waiting(decoder, monkeypatch)
    first = decode_aside(decoder, teal(10, 10))
    assert loading.wait(WAIT_S)
    assert not waiting.is_set()
    second = decode_aside(decoder, teal(10, 10))
    assert waiting.wait(WAIT_S)
    assert most == [1]
    finish.set()
    assert first.result(WAIT_S).size == second.result(WAIT_S).size == (10, 10)
    assert most == [1]


def test_two_images_within_the_budget_are_decoded_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = Decoder(DecodeLimits(max_bytes_at_once=2 * ONE))
    both_inside = threading.Barrier(2)
    most = watch_loads(monkeypatch, lambda: both_inside.wait(WAIT_S))
    decoded = [decode_aside(decoder, teal(10, 10)) for _ in range(2)]
    assert [image.result(WAIT_S).size for image in decoded] == [(10, 10)] * 2
    assert most == [2]


def test_an_image_that_takes_more_than_the_budget_is_decoded_alone() -> None:
    decoder = Decoder(DecodeLimits(max_bytes_at_once=1))
    assert decode_aside(decoder, teal(10, 10)).result(WAIT_S).size == (10, 10)


def test_a_failed_image_gives_its_room_back() -> None:
    decoder = Decoder(DecodeLimits(max_bytes_at_once=60_000))
    cut = encode(noise(), "JPEG")[:-2]
    for _ in range(3):
        with pytest.raises(ImageTruncatedError):
            decode_aside(decoder, cut).result(WAIT_S)
    assert decode_aside(decoder, teal(75, 80)).result(WAIT_S).size == (75, 80)
    assert decoder._budget.free == 60_000


def test_an_image_holds_its_room_until_it_is_left() -> None:
    decoder = Decoder(DecodeLimits(max_bytes_at_once=ONE + ONE // 2))
    with decoder.open(read_header(teal(10, 10))):
        assert decoder._budget.free == ONE // 2
    assert decoder._budget.free == ONE + ONE // 2
    with pytest.raises(ValueError, match="of its user"), decoder.open(read_header(teal(10, 10))):
        raise ValueError("of its user")
    assert decoder._budget.free == ONE + ONE // 2


def test_an_image_that_nobody_waits_for_any_more_is_not_decoded(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with (
        pytest.raises(AbandonedError),
        decoder.open(read_header(teal(10, 10)), is_wanted=lambda: False),
    ):
        pass
    assert decoder._budget.free == decoder.limits.max_bytes_at_once


JPEG = encode(noise(), "JPEG")
GIF = encode(noise(), "GIF")
GIF_START = 13 + 768


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body


def create_run_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP whose pixels are runs of 8 bits (RLE8)."""
    data = bytearray(create_bmp(width, height, bytes(1024) + runs))
    data[10:14] = (54 + 1024).to_bytes(4, "little")
    data[28], data[30] = 8, 1
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(JPEG[:2] + segment(0xFE, b"") * 100_000 + JPEG[2:], id="jpeg-comments"),
        pytest.param(
            JPEG[:2] + segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * 50 + JPEG[2:],
            id="jpeg-tables",
        ),
        pytest.param(GIF[:GIF_START] + b"!\xfe\0" * 100_000 + GIF[GIF_START:], id="gif-comments"),
        pytest.param(
            GIF[:GIF_START] + b"!\xfe" + b"\1a" * 100_000 + b"\0" + GIF[GIF_START:],
            id="gif-blocks",
        ),
        pytest.param(create_run_bmp(1000, 1000, b"\2\5" * 200_000), id="bmp-runs"),
        pytest.param(create_run_bmp(5000, 5000, b"\xff\5" * 1000), id="bmp-large-of-runs"),
    ],
)
def test_what_pillow_would_walk_in_python_is_bounded_before_it_opens_it(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(ImageTooComplexError):
        decoder.decode(data)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(b"\xff" * 60_000, id="padding"),
        pytest.param(segment(0xFE, bytes(9)) + bytes(60_000), id="junk"),
        pytest.param(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1" + bytes(6)) * 500, id="8bim"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 100, id="icc"),
        pytest.param(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 100, id="exif"),
    ],
)
def test_pillow_is_not_shown_what_says_nothing_about_a_jpeg_s_pixels(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, extra: bytes
) -> None:
    seen: list[int] = []
    open_image = Image.open

    def watched(file: BytesIO, **options: Any) -> Image.Image:
        seen.append(len(file.getvalue()))
        return open_image(file, **options)

    monkeypatch.setattr(Image, "open", watched)
    data = JPEG[:2] + extra + JPEG[2:]
    assert decoder.decode(data).tobytes() == decoder.decode(JPEG).tobytes()
    assert seen[0] <= seen[1] + 2**16


def test_a_gif_is_decoded_without_what_stands_before_its_frame(decoder: Decoder) -> None:
    comment = b"!\xfe\5hello\0" * 100
    plain = decoder.decode(GIF).tobytes()
    assert decoder.decode(GIF[:GIF_START] + comment + GIF[GIF_START:]).tobytes() == plain


def test_a_small_bmp_of_runs_is_decoded(decoder: Decoder) -> None:
    assert decoder.decode(create_run_bmp(4, 2, b"\4\0\0\0\4\0\0\1")).size == (4, 2)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_exif_of_very_many_entries_is_not_walked(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, image_format: str
) -> None:
    entry = b"\x12\x01\x03\0\1\0\0\0\6\0\0\0"
    exif = b"II*\0\x08\0\0\0\xff\xff" + entry * 65_535 + bytes(4)
    monkeypatch.setattr(Image.Image, "getexif", lambda _: pytest.fail("walked"))
    assert decoder.decode(encode(noise(), image_format, exif=exif)).size == noise().size


def test_a_jpeg_of_one_scan_may_hold_what_looks_like_scans_behind_it(decoder: Decoder) -> None:
    data = encode(noise(), "JPEG") + b"\xff\xda" * 1_000
    assert decoder.decode(data).size == noise().size


def test_a_sequential_jpeg_of_a_thousand_scans_is_too_complex(decoder: Decoder) -> None:
    data = bytearray(encode(noise(), "JPEG"))
    data[data.index(b"\xff\xda") + 4] = 1  # component alone in the first scan
    with pytest.raises(ImageTooComplexError):
        decoder.decode(add_scans(bytes(data), 1_000))


def test_what_follows_a_progressive_jpeg_s_end_is_no_scan(decoder: Decoder) -> None:
    data = encode(noise(), "JPEG", progressive=True) + b"\xff\xda" * 1_000
    assert decoder.decode(data).size == noise().size


def test_a_comment_that_looks_like_the_end_hides_no_scan(decoder: Decoder) -> None:
    data = encode(noise(), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    with pytest.raises(ImageTooComplexError):
        decoder.decode(add_scans(data[:scan] + comment + data[scan:], 1_000))
