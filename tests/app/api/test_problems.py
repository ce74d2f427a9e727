from __future__ import annotations

import re
import socket

import httpx2
import pytest

from app import errors
from tests.conftest import serve
from tests.image_files import uniform

FIELDS = ["type", "title", "status", "code", "detail", "request_id"]


def expect(answer: httpx2.Response, status: int, code: str) -> None:
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert list(body) == FIELDS
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"<svg/>", 415, "unsupported_image_format"),
        (b"\xff\xd8\xff", 422, "invalid_image"),
        (uniform(9, (64, 64))[:80], 422, "image_truncated"),
        (uniform(9, (20_000, 1)), 413, "image_too_large"),
        (b"\xff\xd8" + b"\xff\xda" * 200 + uniform(1, image_format="JPEG")[2:], 422, None),
    ],
    ids=["empty", "svg", "signature only", "cut", "too long a side", "many scans"],
)
@pytest.mark.parametrize("route", ["classify", "embed"])
def test_what_is_no_good_image_is_refused_by_name(
    client: httpx2.Client, route: str, body: bytes, status: int, code: str | None
) -> None:
    by_form = client.post(f"/{route}", files={"file": ("a.png", body, "image/png")})
    as_body = client.post(f"/{route}", content=body, headers={"Content-Type": "image/png"})
    for answer in (by_form, as_body):
        expect(answer, status, code or answer.json()["code"])


def test_framework_errors_are_problems_too(client: httpx2.Client) -> None:
    expect(client.get("/nothing/here"), 404, "not_found")
    expect(client.get("/classify/"), 404, "not_found")
    refused = client.delete("/classify")
    expect(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "POST"
    assert set(client.post("/livez").headers["Allow"].split(", ")) == {"GET", "HEAD"}
    expect(client.post("/livez"), 405, "method_not_allowed")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_an_unsupported_media_type(
    client: httpx2.Client, cat: bytes, content_type: str
) -> None:
    answer = client.post("/classify", content=cat, headers={"Content-Type": content_type})
    expect(answer, 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(client: httpx2.Client, cat: bytes) -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    expect(client.post("/embed", content=cat, headers=headers), 415, "unsupported_content_encoding")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_request"),
        (b"[]", 422, "invalid_parameter"),
        (b'{"url": "http://169.254.169.254/"}', 422, "missing_file"),
        (b'{"image": 5}', 422, "invalid_parameter"),
        (b'{"image": "?"}', 422, "invalid_parameter"),
        (b'{"image": ""}', 422, "empty_file"),
        (b'{"image": "data:image/png,abc"}', 422, "invalid_parameter"),
        (b'{"image": "http://localhost/cat.jpg"}', 422, "invalid_parameter"),
        (b"[" * 100_000, 400, "malformed_request"),
    ],
    ids=[
        "cut", "list", "url", "number", "no base64", "no bytes", "plain data uri", "link", "nested"
    ],
)  # fmt: skip
def test_json_that_is_not_the_documented_object_is_refused(
    client: httpx2.Client, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    expect(client.post("/classify", content=body, headers=headers), status, code)


def test_a_body_over_the_limit_is_refused_and_the_connection_closes() -> None:
    with (
        serve(max_body_mib=0.01, max_batch_body_mib=0.02) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        headers = {"Content-Type": "image/png"}
        declared = client.post("/classify", content=b"x" * 11_000, headers=headers)
        chunked = client.post("/embed", content=iter([b"x" * 6000] * 2), headers=headers)
        for answer in (declared, chunked):
            expect(answer, 413, "body_too_large")
            assert answer.headers["Connection"] == "close"
            assert "MAX_BODY_MIB" in answer.json()["detail"]
        many = client.post("/classify/batch", files=[("file", b"x" * 15_000)])
        expect(many, 415, "unsupported_image_format")
        many = client.post("/classify/batch", files=[("file", b"x" * 25_000)])
        expect(many, 413, "body_too_large")


def test_a_path_that_a_route_matches_is_a_path_that_is_guarded() -> None:
    headers = {"Content-Type": "image/jpeg"}
    with serve(max_body_mib=0.01) as server:
        for path in ("/classify", "/classify%0A", "/models/a/b"):
            answer = httpx2.post(f"{server.url}{path}", content=b"x" * 11_000, headers=headers)
            assert answer.status_code == 413


def test_no_text_carries_an_exception_a_path_or_an_address(client: httpx2.Client) -> None:
    marker = "s3cret-marker"
    broken = b"\xff\xd8\xff\xe0" + b"A" * 50
    answers = [
        client.post("/classify", content=broken, headers={"Content-Type": "image/jpeg"}),
        client.post(f"/classify?{marker}=1", files={"file": b"x"}),
        client.post(f"/classify?top_k={marker}", files={"file": b"x"}),
        client.post("/classify", files={marker: b"x"}),
        client.get(f"/{marker}"),
    ]
    for answer in answers:
        assert answer.status_code >= 400
        assert not re.search(r"0x[0-9a-f]{6,}|Traceback|site-packages|object at|/app/", answer.text)
        assert marker not in answer.text


def test_an_error_nobody_foresaw_is_an_internal_error_without_its_text(
    monkeypatch: pytest.MonkeyPatch, cat: bytes
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the secret of 0xdeadbeef")

    with serve() as server:
        monkeypatch.setattr("app.inference.service.rank", explode)
        answer = httpx2.post(f"{server.url}/classify", files={"file": cat})
        expect(answer, 500, "internal_error")
        assert "secret" not in answer.text
        assert httpx2.post(f"{server.url}/embed", files={"file": cat}).status_code == 200


def test_an_image_that_does_not_fit_into_memory_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, client: httpx2.Client, cat: bytes
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("model.images.decoder.Decoder.open", run_out)
    answer = client.post("/classify", files={"file": cat})
    expect(answer, 503, "out_of_memory")
    assert answer.headers["Retry-After"] == "1"


def test_a_declared_length_over_the_limit_is_refused_unread_and_counted_by_its_route() -> None:
    with serve(max_body_mib=0.01) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
            )
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        labels = {"route": "/embed", "status": "413"}
        server.wait_for(lambda: server.metric("mobilenet_requests_total", **labels) == 1)


@pytest.mark.parametrize("kind", errors.every_error(), ids=lambda kind: kind.code)
def test_an_error_of_one_image_of_several_says_which_and_is_the_same_otherwise(
    kind: type[errors.AppError],
) -> None:
    error = kind()
    placed = error.at("inputs[1]")
    assert (type(placed), placed.headers) == (kind, error.headers)
    assert placed.detail == f"inputs[1]: {error.detail}"


def test_every_error_has_a_status_a_code_and_a_sentence() -> None:
    def tree(error: type[errors.AppError]) -> list[type[errors.AppError]]:
        return [error, *(leaf for child in error.__subclasses__() for leaf in tree(child))]

    kinds = tree(errors.AppError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert 400 <= kind.status < 600
        assert kind.detail.endswith(".")
