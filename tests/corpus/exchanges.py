"""Good images in odd requests, and bad requests that are no image's fault, byte by byte."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.corpus.row import CAT

LONG = 10_000_000
_FORM = "multipart/form-data; boundary=B"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent over one connection, and the answers to it in order.

    Attributes:
        id: of the family it belongs to.
        what: it is.
        make: creates the pieces to send to a path; all but the last are followed by the answer
            `100 Continue`.
        answers: statuses and codes; None for a good answer's code.
        closes: whether the connection is closed after the last answer.
        decided: why it is answered otherwise than most would expect.
    """

    id: str
    what: str
    make: Callable[[str], list[bytes]]
    answers: tuple[tuple[int, str | None], ...] = ((200, None),)
    closes: bool = False
    decided: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.what}"


def post(
    path: str, body: bytes, content_type: str | None, *headers: str, version: str = "1.1"
) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body


def form(
    disposition: bytes = b'name="file"; filename="a"',
    kind: bytes = b"",
    boundary: bytes = b"B",
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    head = b"Content-Disposition: form-data; " + disposition + b"\r\n" + kind
    end = b"\r\n--" + boundary + b"--\r\n"
    return before + b"--" + boundary + b"\r\n" + head + b"\r\n" + CAT.read_bytes() + end + after


def good(id_: str, what: str, body: Callable[[], bytes], content_type: str = _FORM) -> Exchange:
    return Exchange(id_, what, lambda path: [post(path, body(), content_type)])


def chunked(path: str) -> list[bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += "Content-Type: image/jpeg\r\n\r\n"
    cat, size = CAT.read_bytes(), 65_536
    pieces = [cat[start : start + size] for start in range(0, len(cat), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return [head.encode() + chunks + b"0\r\n\r\n"]


def expecting(path: str) -> list[bytes]:
    whole = post(path, CAT.read_bytes(), "image/jpeg", "Expect: 100-continue")
    end = whole.index(b"\r\n\r\n") + 4
    return [whole[:end], whole[end:]]


def old(path: str) -> list[bytes]:
    return [post(path, CAT.read_bytes(), "image/jpeg", version="1.0")]


def twice(path: str) -> list[bytes]:
    return [post(path, CAT.read_bytes(), "image/jpeg") * 2]


def of_json(value: object, path: str) -> list[bytes]:
    return [post(path, json.dumps(value).encode(), "application/json")]


def nested(path: str) -> list[bytes]:
    return [post(path, b'{"image": ' + b"[" * 5_000_000, "application/json")]


def of_base64(count: int, path: str, image: bytes = b"") -> list[bytes]:
    """So many digits of base64: an image, and zeros behind it."""
    digits = base64.b64encode(image).rstrip(b"=").ljust(count, b"A")
    return [post(path, b'{"image": "' + digits + b'"}', "application/json")]


def of_a_large_photo(path: str) -> list[bytes]:
    """An ordinary request as long as any: the unit of work."""
    return of_base64(LONG, path, CAT.read_bytes())


FILE_NAMES = {
    "an empty extension": b'"a."',
    "4 KB": b'"' + b"a" * 4096 + b'"',
    "a path and NUL": b'"../../etc/passwd\0.png"',
    "an emoji": '"\N{CAT FACE}.png"'.encode(),
    "right to left": '"\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"'.encode(),
    "escaped line breaks": b'"a%0d%0aSet-Cookie: x"',
}

VALID = [
    *(
        good("V34", f"JPEG declared as {kind}", CAT.read_bytes, kind)
        for kind in ("image/png", "image/x-anything")
    ),
    *(
        good(
            "V34",
            f"a part declared as {kind.decode()}",
            partial(form, kind=b"Content-Type: %s\r\n" % kind),
        )
        for kind in (b"image/png", b"text/html")
    ),
    good("V34", "a part without a type", form),
    *(
        good("V35", f"a file name of {what}", partial(form, b'name="file"; filename=' + name))
        for what, name in FILE_NAMES.items()
    ),
    good("V35", "an encoded file name", partial(form, b"name=file; filename*=UTF-8''%e2%82%ac")),
    good("V36", "a preamble", partial(form, before=b"\r\n\r\n")),
    good("V36", "an epilogue", partial(form, after=b"\nepilogue\n")),
    good("V36", "a quoted boundary", form, 'multipart/form-data; boundary="B"'),
    good(
        "V36",
        "a boundary of 70",
        partial(form, boundary=b"b" * 70),
        f"multipart/form-data; boundary={'b' * 70}",
    ),
    Exchange("V37", "chunks of 64 KB", chunked),
    Exchange("V38", "Expect: 100-continue", expecting),
    Exchange("V40", "HTTP/1.0", old, closes=True),
    good(
        "V41",
        "odd case and the boundary last",
        form,
        "Multipart/Form-DATA; charset=utf-8; boundary=B",
    ),
    good("V41", "an image type in odd case", CAT.read_bytes, "IMAGE/Jpeg; charset=binary"),
    Exchange("V42", "two requests at once", twice, ((200, None), (200, None))),
]


def refused(what: str, make: Callable[[str], list[bytes]], status: int, code: str) -> Exchange:
    return Exchange("B40", what, make, ((status, code),))


def url_field(path: str) -> list[bytes]:
    part = (
        b'--B\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://127.0.0.1/\r\n--B--\r\n'
    )
    return [post(path, part, _FORM)]


def not_ascii(path: str) -> list[bytes]:
    return [post(f"{path}?model=%C3%A9%FF&size=64", CAT.read_bytes(), "image/jpeg")]


BAD = [
    refused(
        "JSON with a URL", partial(of_json, {"url": "http://169.254.169.254/"}), 422, "missing_file"
    ),
    refused(
        "a URL as the image",
        partial(of_json, {"image": "http://169.254.169.254/"}),
        422,
        "invalid_parameter",
    ),
    refused(
        "a data: URI of text",
        partial(of_json, {"image": "data:text/plain;base64," + base64.b64encode(b"hi").decode()}),
        415,
        "unsupported_image_format",
    ),
    refused("a field with a URL", url_field, 422, "missing_file"),
    Exchange("B41", "JSON nested 5 million deep", nested, ((400, "malformed_request"),)),
    Exchange(
        "B42",
        "10 MB of base64",
        partial(of_base64, LONG),
        ((415, "unsupported_image_format"),),
    ),
    Exchange(
        "B42",
        "10 MB that is no base64",
        partial(of_base64, LONG + 1),
        ((422, "invalid_parameter"),),
    ),
    Exchange("B43", "a query that is not ASCII", not_ascii, ((404, "model_not_found"),)),
]
