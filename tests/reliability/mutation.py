"""Seeded damage to images and to HTTP messages: the same number gives the same bytes."""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

from PIL import Image

from tests.corpus.row import CAT, photo
from tests.model.images.image_files import PNG_SIGNATURE, create_exif, encode

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b",", b'"',
    b"%00", b"%0d%0a", b"%ff", b"\xff", b"\x80", b"\x1b[31m", b"..%2f", b"0\r\n\r\n", b"\r\n ",
    b"--B", b"--B--\r\n",
    b"chunked", b"gzip", b"HTTP/1.0", b"HTTP/2.0", b"Host: y\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"-1",
    b"99999999999999999999", b"0x10", b"1e9", b"NaN", b"null", b"[[[[", b"&", b"?", b"#", b"=",
]  # fmt: skip


@cache
def images() -> list[bytes]:
    """Small ones of every format and of what in it is read differently."""
    small = photo().resize((64, 48))
    clear = small.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    grey, colours = small.convert("L"), small.quantize(64)
    turned = create_exif(b"\6\0")
    jpegs = [
        encode(small, "JPEG"),
        encode(small, "JPEG", progressive=True, exif=turned),
        encode(small.convert("CMYK"), "JPEG"),
        encode(grey, "JPEG", restart_marker_blocks=2),
        encode(photo().resize((1280, 800)), "JPEG", quality=30),  # decoded at a reduced size
    ]
    pngs = [encode(image, "PNG") for image in (small, clear, grey, colours, grey.convert("I;16"))]
    pngs.append(encode(small, "PNG", save_all=True, append_images=[small], exif=turned))
    gifs = [encode(colours, "GIF"), encode(small, "GIF", save_all=True, append_images=[grey] * 2)]
    bmps = [encode(image, "BMP") for image in (small, colours, small.convert("1"))]
    webps = [
        encode(small, "WEBP"),
        encode(clear, "WEBP", lossless=True),
        encode(clear, "WEBP", exif=turned),
        encode(small, "WEBP", save_all=True, append_images=[clear]),
    ]
    return [*jpegs, *pngs, *gifs, *bmps, *webps]


def mutate_image(number: int) -> bytes:
    """Damage one of the images; a PNG's checksums are often made right again."""
    chance = random.Random(number)  # noqa: S311  # reproducible, not secret
    data = damage(chance.choice(images()), chance, _damages_of_bytes())
    return mend_png(data) if data.startswith(PNG_SIGNATURE) and chance.random() < 0.8 else data


def mutate_message(number: int) -> bytes:
    """Damage one of the HTTP messages, or several in a row."""
    chance = random.Random(number)  # noqa: S311  # reproducible, not secret
    data = b"".join(chance.choices(messages(), k=chance.choice((1, 1, 1, 2))))
    # Where the protocol is, which the image's bytes would outweigh.
    line, head = data.find(b"\r\n"), data.find(b"\r\n\r\n") + 4
    start, end = chance.choice(((0, line), (4, line - 9), (line + 2, head), (head, len(data))))
    part = data[start:end]
    if chance.random() < 0.3:
        part = damage(part, chance, [insert_escape], most=4)
    else:
        part = damage(part, chance, _damages_of_text(), most=2)
    return data[:start] + part + data[end:]


@cache
def messages() -> list[bytes]:
    """One request of every kind, with the image small."""
    image = encode(photo().resize((64, 48)), "JPEG")
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n' % image
    text = base64.b64encode(image).decode()
    kind = "multipart/form-data; boundary=B"
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(image[i : i + 99]), image[i : i + 99]) for i in (0, 99)
    )
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    return [
        *(f"GET /{path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".encode() for path in _GETS),
        post("/classify?top_k=3&min_score=0.1", image, "image/jpeg"),
        post("/embed?layer=5,11&size=64&normalize=true", image, "application/octet-stream"),
        post("/classify", part + b"--B--\r\n", kind),
        post("/classify/batch?top_k=1", part * 3 + b"--B--\r\n", kind),
        post("/embed", json.dumps({"image": text}).encode(), "application/json"),
        post("/embed/batch", json.dumps({"images": [text] * 2}).encode(), "application/json"),
        head + b"Content-Type: image/jpeg\r\n\r\n" + chunks + b"0\r\nA: b\r\n\r\n",
        post("/classify", CAT.read_bytes(), "image/jpeg"),
    ]


_GETS = ("livez", "readyz?verbose", "labels", "info", "metrics", "openapi.json", "docs", "nothing")


def post(path: str, body: bytes, kind: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x:80\r\nContent-Type: {kind}\r\nX-Request-ID: a\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


Damage = Callable[[bytearray, random.Random], None]


def damage(data: bytes, chance: random.Random, kinds: list[Damage], most: int = 16) -> bytes:
    damaged = bytearray(data)
    for _ in range(min(most, chance.choice((1, 1, 2, 4, 16)))):
        if damaged:
            chance.choice(kinds)(damaged, chance)
    return bytes(damaged)


def _damages_of_bytes() -> list[Damage]:
    return [flip_bit, set_byte, set_number, cut, remove, repeat, move]


def _damages_of_text() -> list[Damage]:
    tokens: list[Damage] = [insert_token] * 4
    return [*tokens, flip_bit, set_byte, cut, remove, repeat, remove_line, repeat_line, move]


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.randrange(256)


def set_number(data: bytearray, chance: random.Random) -> None:
    """What a size or an offset could be, in the first bytes more often than in the others."""
    form = chance.choice(("<H", ">H", "<I", ">I"))
    end = len(data) if chance.random() < 0.5 else min(len(data), 64)
    at = chance.randrange(end)
    number = chance.choice(_NUMBERS) & (1 << 8 * struct.calcsize(form)) - 1
    data[at : at + struct.calcsize(form)] = struct.pack(form, number)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _piece(data: bytearray, chance: random.Random) -> slice:
    start = chance.randrange(len(data))
    return slice(start, start + chance.choice((1, 2, 4, 16, 256)))


def remove(data: bytearray, chance: random.Random) -> None:
    del data[_piece(data, chance)]


def repeat(data: bytearray, chance: random.Random) -> None:
    piece = _piece(data, chance)
    data[piece.start : piece.start] = data[piece] * chance.choice((1, 2, 50))


def move(data: bytearray, chance: random.Random) -> None:
    piece = _piece(data, chance)
    at = chance.randrange(len(data))
    data[at:at] = data[piece]


def insert_token(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.choice(_TOKENS) * chance.choice((1, 1, 1, 2, 300))


def insert_escape(data: bytearray, chance: random.Random) -> None:
    """Any byte as a URL, and only a URL, writes it."""
    at = chance.randrange(len(data) + 1)
    data[at:at] = b"%%%02x" % chance.randrange(256)


def _line(data: bytearray, chance: random.Random) -> slice:
    ends = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10), len(data)]
    return slice(*chance.choice(list(pairwise(ends))))


def remove_line(data: bytearray, chance: random.Random) -> None:
    del data[_line(data, chance)]


def repeat_line(data: bytearray, chance: random.Random) -> None:
    line = _line(data, chance)
    data[line.stop : line.stop] = data[line] * chance.choice((1, 1, 120))


def mend_png(data: bytes) -> bytes:
    """Make the checksums right, so that damage is not found before it is met."""
    mended, at = bytearray(data), len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))[: len(data) - end]
        at = end + 4
    return bytes(mended[: len(data)])
