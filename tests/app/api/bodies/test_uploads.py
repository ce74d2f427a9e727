from __future__ import annotations

import httpx2
import pytest

from app.api.bodies.uploads import _find_only_part
from tests.image_files import uniform

IMAGE = uniform(120)
FORM = "multipart/form-data; boundary=B"
DISPOSITION = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n'


def form(*parts: bytes, boundary: bytes = b"B", end: bytes = b"--\r\n") -> bytes:
    lines = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return lines + b"--" + boundary + end


def part(head: bytes = DISPOSITION, content: bytes = IMAGE) -> bytes:
    return head + b"\r\n" + content


def post(client: httpx2.Client, body: bytes, content_type: str = FORM) -> tuple[int, str | None]:
    answer = client.post("/classify", content=body, headers={"Content-Type": content_type})
    return answer.status_code, answer.json().get("code")


def named(*options: bytes) -> bytes:
    """A part's Content-Disposition with these options."""
    return b"; ".join([b"Content-Disposition: form-data", *options]) + b"\r\n"


VALID = {
    "plain": (form(part()), FORM),
    "preamble": (b"\r\n\r\n" + form(part()), FORM),
    "epilogue": (form(part()) + b"an epilogue\n", FORM),
    "odd case": (form(part()), 'Multipart/Form-Data; charset=utf-8; boundary="B"'),
    "long boundary": (
        form(part(), boundary=b"b" * 70),
        f"multipart/form-data; boundary={'b' * 70}",
    ),
    "empty file name": (form(part(named(b"name=file", b'filename=""'))), FORM),
    "encoded file name": (form(part(named(b"name=file", b"filename*=UTF-8''%e2"))), FORM),
    "another field first": (form(part(named(b"name=note"), b"hello"), part()), FORM),
    "wrong declared type": (form(part(DISPOSITION + b"Content-Type: text/html\r\n")), FORM),
}


@pytest.mark.parametrize(("body", "content_type"), VALID.values(), ids=VALID)
def test_an_odd_but_valid_form_is_read(
    client: httpx2.Client, body: bytes, content_type: str
) -> None:
    assert post(client, body, content_type) == (200, None)


CONTENTS = {
    "nothing": b"",
    "a line break": b"\r\n",
    "hyphens": b"--",
    "the boundary": b"--B--",
    "the delimiter's start": b"x\r\n--",
    "another delimiter": b"x\r\n--C--",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_usual_form_is_read_as_an_unusual_one(content: bytes) -> None:
    usual = form(part(content=IMAGE + content))
    assert _find_only_part(usual, b"B") == IMAGE + content
    for unusual in (
        b"\r\n" + usual,
        form(part(DISPOSITION + b"X: y\r\n", IMAGE + content)),
        form(part(named(b"name=file", b"filename=a"), IMAGE + content)),
    ):
        assert _find_only_part(unusual, b"B") is None


@pytest.mark.parametrize(
    "body",
    [
        form(part(), part()),
        form(part(), end=b""),
        form(part(), end=b"x--\r\n"),
        form(part(named(b'name="file"', b'filename="a\\"b"'))),
        form(part(named(b'name="FILE"', b'filename="a"'))),
        form(part(DISPOSITION + b"Content-Type: a\rb\r\n")),
    ],
)
def test_an_unusual_form_is_left_to_the_parser(body: bytes) -> None:
    assert _find_only_part(body, b"B") is None


BROKEN = {
    "no boundary": (form(part()), "multipart/form-data"),
    "empty boundary": (form(part()), "multipart/form-data; boundary="),
    "huge boundary": (form(part()), f"multipart/form-data; boundary={'b' * 300}"),
    "boundary not in body": (form(part()), "multipart/form-data; boundary=other"),
    "no closing boundary": (form(part(), end=b""), FORM),
    "part without a name": (form(part(named())), FORM),
    "nine headers": (form(part(DISPOSITION + b"X: y\r\n" * 8)), FORM),
    "huge header": (form(part(DISPOSITION + b"X: " + b"y" * 9000 + b"\r\n")), FORM),
}


@pytest.mark.parametrize(("body", "content_type"), BROKEN.values(), ids=BROKEN)
def test_a_broken_form_is_malformed(client: httpx2.Client, body: bytes, content_type: str) -> None:
    assert post(client, body, content_type) == (400, "malformed_multipart")


UNUSABLE = {
    "no parts": (b"--B--\r\n", "missing_file"),
    "other field": (form(part(named(b"name=image", b"filename=a"))), "missing_file"),
    "field without file name": (form(part(named(b"name=file"))), "missing_file"),
    "empty": (form(part(content=b"")), "empty_file"),
    "two files": (form(part(), part()), "too_many_files"),
    "many fields": (form(*[part(named(b"name=x"), b"")] * 101), "too_many_files"),
}


@pytest.mark.parametrize(("body", "code"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_form_without_its_one_image_is_refused(
    client: httpx2.Client, body: bytes, code: str
) -> None:
    assert post(client, body) == (422, code)


def test_a_form_may_arrive_in_any_pieces(client: httpx2.Client) -> None:
    body = form(part())
    headers = {"Content-Type": FORM}
    for size in (1, 7, 64):
        pieces = iter([body[start : start + size] for start in range(0, len(body), size)])
        assert client.post("/classify", content=pieces, headers=headers).status_code == 200
