"""JPEG, sound and not.

This file is longer than others because it is a table, a few lines a row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from PIL import Image, ImageChops, ImageCms

from tests.corpus.row import (
    Row,
    flat,
    grey_photo,
    invalid,
    noise,
    photo,
    random_bytes,
    too_complex,
    too_large,
    truncated,
    unsupported,
)
from tests.model.images.image_files import add_scans, create_exif, encode, patch_jpeg_size

_MEBI = 1 << 20
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores what is seen upright, by EXIF."""

IGNORED = "colour profiles are ignored, as the documentation says: values count as they are"


@cache
def jpeg(**options: Any) -> bytes:
    return encode(photo(), "JPEG", **{"quality": 92, **options})


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes) -> bytes:
    """The photo, with these right after its start."""
    return jpeg()[:2] + b"".join(segments) + jpeg()[2:]


def with_exif(exif: bytes) -> bytes:
    return with_segments(segment(0xE1, exif))


def turned(orientation: int) -> bytes:
    method = _STORED[orientation]
    stored = photo() if method is None else photo().transpose(method)
    return encode(stored, "JPEG", quality=95, exif=create_exif(struct.pack("<H", orientation)))


@cache
def cmyk() -> Image.Image:
    return photo().convert("CMYK")


def show_cmyk() -> Image.Image:
    return cmyk().convert("RGB")


def ycck() -> bytes:
    """As Adobe writes it: the inks are inverted, and the first three are turned into YCbCr."""
    cyan, magenta, yellow, black = cmyk().split()
    luma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr")
    inverted = [ImageChops.invert(band) for band in luma.split()]
    image = Image.merge("CMYK", (*inverted, black))
    data = bytearray(encode(image, "JPEG", quality=95, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def profile(primaries: tuple[float, ...]) -> bytes:
    """An ICC profile that moves sRGB's primaries: rXYZ, gXYZ and bXYZ, three numbers each."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name, start in ((b"rXYZ", 0), (b"gXYZ", 3), (b"bXYZ", 6)):
        entry = data.index(name)
        (offset,) = struct.unpack_from(">I", data, entry + 4)
        numbers = [round(value * 65536) for value in primaries[start : start + 3]]
        struct.pack_into(">3i", data, offset + 8, *numbers)
    return bytes(data)


_ADOBE_RGB = (0.6097, 0.3111, 0.0195, 0.2053, 0.6257, 0.0609, 0.1492, 0.0632, 0.7446)
_DISPLAY_P3 = (0.5151, 0.2412, -0.0011, 0.2920, 0.6922, 0.0419, 0.1571, 0.0666, 0.7841)
PROFILES = {
    "60 KB profile": partial(random_bytes, 60_000),
    "Adobe RGB": partial(profile, _ADOBE_RGB),
    "Display P3": partial(profile, _DISPLAY_P3),
}


def with_profile(make: Callable[[], bytes]) -> bytes:
    return jpeg(icc_profile=make())


def with_zip() -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "hello")
    return jpeg() + file.getvalue()


def two_images() -> bytes:
    other = noise(64, 64)
    return encode(photo(), "MPO", save_all=True, append_images=[other], quality=92)


def second_image_is_huge() -> bytes:
    data = two_images()
    second = data.index(b"\xff\xd8\xff", 2)
    frame = data.index(b"\xff\xc0", second) + 5
    return data[:frame] + struct.pack(">HH", 65_500, 65_500) + data[frame + 4 :]


def as_process(code: int) -> bytes:
    """Another process in the frame's marker: what follows is not coded that way."""
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 1] = code
    if code == 0xC1:  # twelve bits
        data[frame + 4] = 12
    return bytes(data)


def directory(*entries: bytes, following: int = 0) -> bytes:
    return (
        b"Exif\0\0II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + (struct.pack("<I", following))
    )


def pointer(tag: int, target: int) -> bytes:
    return struct.pack("<HHII", tag, 4, 1, target)


def exif_thumbnail() -> bytes:
    """A second directory whose thumbnail says that it is 65500x65500."""
    thumbnail = patch_jpeg_size(flat(16, 16, "JPEG"), 65_500, 65_500)
    first = directory(following=14)
    second = struct.pack("<H", 2) + pointer(0x201, 44) + pointer(0x202, len(thumbnail)) + bytes(4)
    return first + second + thumbnail


def photoshop(blocks: int) -> bytes:
    return segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * blocks)


def filled(size: int) -> bytes:
    return jpeg() + bytes(size - len(jpeg()))


def scans(count: int) -> bytes:
    return add_scans(encode(noise(8, 8), "JPEG", progressive=True), count)


def exif_rows() -> list[Row]:
    broken = {
        "empty": b"Exif\0\0",
        "garbage": b"Exif\0\0" + random_bytes(500),
        "its name twice": b"Exif\0\0" + create_exif(b"\1\0"),
        "truncated": create_exif(b"\1\0")[:20],
    }
    odd = {"0": b"\0\0", "9": b"\x09\0"}
    return [
        *(
            Row("V06", f"JPEG, orientation {one}", partial(turned, one), shows=photo, cosine=0.99)
            for one in _STORED
        ),
        *(
            Row(
                "V07",
                f"JPEG, orientation {name}",
                partial(with_exif, create_exif(value)),
                shows=photo,
            )
            for name, value in odd.items()
        ),
        Row(
            "V07",
            "JPEG, orientation of text",
            partial(with_exif, create_exif(b"abc\0", kind=2, count=4)),
            shows=photo,
        ),
        *(
            Row("V08", f"JPEG, EXIF {name}", partial(with_exif, value), shows=photo)
            for name, value in broken.items()
        ),
    ]


VALID = [
    Row("V01", "JPEG 4:2:0", jpeg, shows=photo),
    Row("V02", "JPEG, progressive", partial(jpeg, progressive=True), shows=photo),
    Row("V03", "JPEG 4:4:4", partial(jpeg, subsampling="4:4:4"), shows=photo),
    Row("V03", "JPEG 4:1:1", partial(jpeg, subsampling="4:1:1"), shows=photo),
    Row("V03", "JPEG, restart markers", partial(jpeg, restart_marker_rows=1), shows=photo),
    Row("V04", "JPEG, grey", lambda: encode(grey_photo(), "JPEG", quality=92), shows=grey_photo),
    Row("V05", "JPEG, CMYK", lambda: encode(cmyk(), "JPEG", quality=92), shows=show_cmyk),
    Row("V05", "JPEG, YCCK", ycck, shows=show_cmyk),
    *exif_rows(),
    *(
        Row("V09", f"JPEG, {name}", partial(with_profile, make), shows=photo, decided=IGNORED)
        for name, make in PROFILES.items()
    ),
    Row("V10", "JPEG and 1 KB of zeros", lambda: jpeg() + bytes(1024), shows=photo),
    Row("V10", "JPEG that is a ZIP too", with_zip, shows=photo),
    Row("V11", "MPO of two images", two_images, shows=photo),
    Row("V28", "JPEG 1x1", partial(flat, 1, 1, "JPEG")),
    *(
        Row("V29", f"JPEG {width}x{height}", partial(flat, width, height, "JPEG"))
        for width, height in ((2, 2), (223, 225), (224, 224))
    ),
    Row(
        "V31",
        "JPEG of 24 megapixels",
        lambda: encode(photo().resize((6000, 4000)), "JPEG", quality=90),
        work=2,
        slow=True,
    ),
    Row("V32", "JPEG of 10 MiB", partial(filled, 10 * _MEBI), shows=photo, multipart=False),
]

BAD = [
    invalid("B06", "JPEG, its start only", lambda: b"\xff\xd8"),
    invalid("B06", "JPEG, its first segment only", lambda: jpeg()[:20]),
    *(
        truncated(
            "B08",
            f"JPEG cut at {part} %",
            partial(lambda part: jpeg()[: len(jpeg()) * part // 100], part),
        )
        for part in (10, 90)
    ),
    truncated("B09", "JPEG without its end marker", lambda: jpeg()[:-2]),
    invalid("B14", "JPEG of no height", lambda: patch_jpeg_size(jpeg(), 600, 0)),
    too_large("B23", "JPEG says 65500x65500", lambda: patch_jpeg_size(jpeg(), 65_500, 65_500)),
    too_complex("B26", "JPEG of 1,000 scans", partial(scans, 1_000)),
    too_complex("B26", "JPEG of 450,000 scans", partial(scans, 450_000)),
    *(
        invalid("B32", f"JPEG, {name}", partial(as_process, code))
        for name, code in {
            "12 bits": 0xC1,
            "lossless": 0xC3,
            "hierarchical": 0xC5,
        }.items()
    ),
    Row(
        "B32",
        "JPEG that says arithmetic coding",
        partial(as_process, 0xC9),
        decided="libjpeg-turbo reads arithmetic coding; these bytes are an image in it, of noise",
    ),
    Row(
        "B33",
        "JPEG, EXIF loop",
        lambda: with_exif(directory(pointer(0x8769, 8), following=8)),
        shows=photo,
        bomb=True,
    ),
    Row(
        "B33",
        "JPEG, EXIF in EXIF",
        lambda: with_exif(directory(pointer(0x8769, 8), pointer(0xA005, 8))),
        shows=photo,
        bomb=True,
    ),
    Row(
        "B33", "JPEG, a huge thumbnail", lambda: with_exif(exif_thumbnail()), shows=photo, bomb=True
    ),
    Row("B34", "MPO whose second image is huge", second_image_is_huge, shows=photo, bomb=True),
    unsupported("B37", "line break and JPEG", lambda: b"\n" + jpeg()),
    # What the corpus itself brought to light.
    invalid("B43", "JPEG, 9 MB of padding", lambda: with_segments(b"\xff" * 9_000_000), bomb=True),
    invalid(
        "B43",
        "JPEG, 9 MB of junk",
        lambda: with_segments(segment(0xFE, b"")) and jpeg()[:20] + bytes(9_000_000) + jpeg()[20:],
        bomb=True,
    ),
    too_complex(
        "B44", "JPEG, 2 million comments", lambda: with_segments(segment(0xFE, b"") * 2_000_000)
    ),
    too_complex(
        "B44",
        "JPEG, 9 MB of tables",
        lambda: with_segments(segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * 140),
    ),
    Row(
        "B44",
        "JPEG, 750,000 Photoshop blocks",
        lambda: with_segments(photoshop(5400) * 140),
        shows=photo,
        bomb=True,
    ),
]
