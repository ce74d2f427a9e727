"""PNG, sound and not.

This file is longer than others because it is a table, a few lines a row.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache, partial

import numpy as np
from PIL import Image

from tests.corpus.row import (
    FEW_COLOURS,
    Row,
    as_rgb,
    flat,
    grey_photo,
    half_transparent,
    invalid,
    noise,
    on_white,
    photo,
    too_complex,
    too_large,
    truncated,
)
from tests.model.images.image_files import (
    GREY,
    PNG_SIGNATURE,
    RGB,
    chunk,
    create_exif,
    create_interlaced_png,
    create_png,
    encode,
    png_header,
)

_RGBA = 6
_HEADER = slice(0, 33)
_END = chunk(b"IEND", b"")


@cache
def png() -> bytes:
    return encode(photo(), "PNG", compress_level=6)


def with_chunks(chunks: bytes) -> bytes:
    """The photo, with these right after its header."""
    return png()[_HEADER] + chunks + png()[_HEADER.stop :]


def shades(depth: int) -> Image.Image:
    """What a grey image shows of so many bits."""
    most = (1 << depth) - 1
    return as_rgb(((np.asarray(grey_photo()) >> (8 - depth)) * (255 // most)).astype(np.uint8))


def few_bits(depth: int) -> bytes:
    values = (np.asarray(grey_photo()) >> (8 - depth)).astype(np.uint8)
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(values), -1), axis=1)
    header = png_header(grey_photo().width, grey_photo().height, depth)
    return create_png(header, [row.tobytes() for row in rows])


def deep(image: Image.Image, colour: int) -> bytes:
    """The same in 16 bits."""
    rows = [(row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in np.asarray(image)]
    return create_png(png_header(*image.size, depth=16, colour=colour), rows)


@cache
def palette() -> Image.Image:
    return photo().quantize(256)


def show_palette() -> Image.Image:
    return palette().convert("RGB")


def transparent_palette() -> bytes:
    return encode(palette(), "PNG", transparency=bytes(range(256)))


def show_transparent_palette() -> Image.Image:
    image = palette().convert("RGBA")
    image.putalpha(Image.fromarray(np.asarray(palette())))
    return on_white(image)


def clear() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(0)
    return image


def white() -> Image.Image:
    return Image.new("RGB", photo().size, "white")


@cache
def keyed() -> tuple[int, ...]:
    """The most frequent colour."""
    red, green, blue = np.asarray(photo()).astype(np.uint32).transpose(2, 0, 1)
    most = int(np.bincount((red << 16 | green << 8 | blue).ravel()).argmax())
    return most >> 16, most >> 8 & 255, most & 255


def show_keyed() -> Image.Image:
    values = np.asarray(photo()).copy()
    values[(values == keyed()).all(axis=2)] = 255
    return as_rgb(values)


def without_rows(share: float) -> bytes:
    values = np.asarray(photo())
    kept = [row.tobytes() for row in values[: int(len(values) * share)]]
    return create_png(png_header(*photo().size, colour=RGB), kept)


def changed(position: int, bits: int = 1) -> bytes:
    data = bytearray(png())
    data[position] ^= bits
    return bytes(data)


def of_one_bit(side: int) -> bytes:
    """A real image of zeros, a few kilobytes long."""
    deflate = zlib.compressobj(1)
    rows = [deflate.compress(bytes(1 + side // 8)) for _ in range(side)] + [deflate.flush()]
    return b"".join(
        [PNG_SIGNATURE, png_header(side, side, 1), chunk(b"IDAT", b"".join(rows)), _END]
    )


def text(kind: bytes, head: bytes, inflated: int) -> bytes:
    return chunk(kind, head + zlib.compress(bytes(inflated), 9))


def entries(count: int) -> bytes:
    """EXIF of so many entries."""
    one = struct.pack("<HHII", 0x9000, 4, 1, 0)
    return create_exif(b"\1\0")[6:14] + struct.pack("<H", count) + one * count + bytes(4)


VALID = [
    *(
        Row(
            "V12",
            f"PNG, grey of {depth} bits",
            partial(few_bits, depth),
            shows=partial(shades, depth),
            cosine=FEW_COLOURS,
        )
        for depth in (1, 2, 4)
    ),
    Row("V13", "PNG, grey", lambda: encode(grey_photo(), "PNG"), shows=grey_photo),
    Row(
        "V13",
        "PNG, grey with alpha",
        lambda: encode(half_transparent().convert("LA"), "PNG"),
        shows=lambda: on_white(half_transparent().convert("LA")),
    ),
    Row("V14", "PNG, palette", lambda: encode(palette(), "PNG"), shows=show_palette),
    Row("V14", "PNG, transparent palette", transparent_palette, shows=show_transparent_palette),
    Row(
        "V15",
        "PNG, half transparent",
        lambda: encode(half_transparent(), "PNG"),
        shows=lambda: on_white(half_transparent()),
    ),
    Row("V15", "PNG, all transparent", lambda: encode(clear(), "PNG"), shows=white),
    Row(
        "V16",
        "PNG, a transparent colour",
        lambda: encode(photo(), "PNG", transparency=keyed()),
        shows=show_keyed,
    ),
    Row("V17", "PNG, grey of 16 bits", lambda: deep(grey_photo(), GREY), shows=grey_photo),
    Row("V18", "PNG, RGB of 16 bits", lambda: deep(photo(), RGB), shows=photo),
    Row(
        "V18",
        "PNG, RGBA of 16 bits",
        lambda: deep(half_transparent(), _RGBA),
        shows=lambda: on_white(half_transparent()),
    ),
    Row("V19", "PNG, interlaced", lambda: create_interlaced_png(np.asarray(photo())), shows=photo),
    Row("V20", "PNG and junk", lambda: png() + b"PK\3\4" + bytes(1000), shows=photo),
    Row("V21", "PNG without its end, all rows there", lambda: png()[: -len(_END)], shows=photo),
    Row("V28", "PNG 1x1", partial(flat, 1, 1, "PNG")),
    *(
        Row("V29", f"PNG {width}x{height}", partial(flat, width, height, "PNG"))
        for width, height in ((2, 2), (223, 225), (224, 224))
    ),
    *(
        Row(
            "V30",
            f"PNG {width}x{height}",
            partial(flat, width, height, "PNG"),
            bomb=True,
            decided="takes up to 20 MiB: what has four megapixels or less when it is resized is "
            "resized as a whole, as transformers does",
        )
        for width, height in ((1, 16384), (16384, 1))
    ),
    Row("V32", "PNG of 25 megapixels", partial(flat, 5000, 5000, "PNG"), work=5, slow=True),
    Row("V33", "PNG, black", partial(flat, 300, 300, "PNG")),
    Row("V33", "PNG, white", lambda: encode(Image.new("RGB", (300, 300), "white"), "PNG")),
    Row("V33", "PNG, noise", lambda: encode(noise(300, 300), "PNG")),
]

BAD = [
    truncated("B10", "PNG cut at half", lambda: png()[: len(png()) // 2]),
    Row(
        "B11",
        "PNG with half of its rows",
        partial(without_rows, 0.5),
        decided="sound otherwise; Pillow leaves the other rows black",
    ),
    invalid("B12", "PNG, its header's sum is wrong", partial(changed, 30)),
    invalid("B12", "PNG, its pixels' sum is wrong", partial(changed, -len(_END) - 2)),
    invalid("B12", "PNG, a flipped bit", lambda: changed(len(png()) // 2)),
    invalid(
        "B13",
        "PNG, its pixels are not deflated",
        lambda: png()[_HEADER] + chunk(b"IDAT", bytes(99)) + _END,
    ),
    invalid("B13", "PNG without pixels", lambda: png()[_HEADER] + _END),
    invalid("B14", "PNG 0x8", lambda: create_png(png_header(0, 8), [b""] * 8)),
    invalid("B14", "PNG 8x0", lambda: create_png(png_header(8, 0), [])),
    too_large("B15", "PNG of endless width", lambda: create_png(png_header(0xFFFFFFFF, 8), [])),
    invalid("B16", "PNG of 3 bits", lambda: create_png(png_header(4, 4, depth=3), [bytes(4)] * 4)),
    invalid(
        "B16",
        "PNG of an unknown colour type",
        lambda: create_png(png_header(4, 4, colour=5), [bytes(4)] * 4),
    ),
    too_large("B17", "PNG says 20000x20000", lambda: create_png(png_header(20_000, 20_000), [])),
    too_large("B19", "PNG 30000x30000 of one bit", partial(of_one_bit, 30_000)),
    too_complex(
        "B27", "PNG, text inflates to 5 MB", lambda: with_chunks(text(b"zTXt", b"a\0\0", 5_000_000))
    ),
    too_complex(
        "B27", "PNG, 80 texts of 900 KB", lambda: with_chunks(text(b"zTXt", b"a\0\0", 900_000) * 80)
    ),
    too_complex(
        "B27",
        "PNG, UTF-8 text inflates to 5 MB",
        lambda: with_chunks(text(b"iTXt", b"a\0\1\0\0\0", 5_000_000)),
    ),
    too_complex(
        "B28",
        "PNG, profile inflates to 50 MB",
        lambda: with_chunks(text(b"iCCP", b"a\0\0", 50_000_000)),
    ),
    too_complex(
        "B29", "PNG of 500,000 texts", lambda: with_chunks(chunk(b"tEXt", b"a\0bcdefg") * 500_000)
    ),
    too_complex(
        "B30", "PNG of 800,000 empty chunks", lambda: with_chunks(chunk(b"IDAT", b"") * 800_000)
    ),
    too_complex(
        "B31",
        "PNG of 50,000 frames",
        lambda: with_chunks(
            chunk(b"acTL", struct.pack(">II", 50_000, 0)) + chunk(b"fcTL", bytes(26)) * 50_000
        ),
        decided="it has more chunks than any PNG may have; frames are never counted",
    ),
    Row(
        "B48",
        "PNG, EXIF of 65,535 entries",
        lambda: with_chunks(chunk(b"eXIf", entries(65_535))),
        shows=photo,
        bomb=True,
    ),
]
