"""Every row of the corpus over real sockets, to a server in a process of its own."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.corpus.exchanges import Exchange
from tests.corpus.row import CAT, Row
from tests.corpus.server import Watched, watch
from tests.corpus.table import EXCHANGES, FAMILIES, ROWS
from tests.model.images.pictures import encode

pytestmark = pytest.mark.reliability

ROUTES = ("/classify", "/embed")
NAME = DEFAULT_DIRECTORY.name
INTERNAL = re.compile(
    rb"0x|Traceback|object at|site-packages|\.py\b|/(?:home|usr|tmp|app|etc)/|Error\b"
)
"""What an answer would hold if it told an exception's text, an address or a path."""


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    with watch() as server:
        yield server
        assert not [
            line for line in server.log if "Traceback" in line or '"level": "error"' in line
        ]


@pytest.fixture(autouse=True)
def _nothing_is_left(server: Watched) -> Iterator[None]:
    yield
    server.check()


def params(rows: list[Row]) -> list[object]:
    slow = pytest.mark.slow
    return [pytest.param(row, id=str(row), marks=[slow] if row.slow else []) for row in rows]


def code_of(body: bytes) -> str | None:
    code: str | None = json.loads(body).get("code")
    return code


def forms(row: Row, image: bytes) -> Iterator[tuple[bytes, str]]:
    yield image, "image/jpeg"
    if row.multipart:
        head = b'--BOUND\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        yield head + image + b"\r\n--BOUND--\r\n", "multipart/form-data; boundary=BOUND"


@pytest.mark.parametrize("row", params(ROWS))
def test_every_picture_is_answered_as_the_table_says(server: Watched, row: Row) -> None:
    image = row.make()
    for route in ROUTES:
        for body, content_type in forms(row, image):
            before = server.cpu_ms()
            answer = server.client.post(route, content=body, headers={"Content-Type": content_type})
            assert (answer.status_code, code_of(answer.content)) == (row.status, row.code)
            assert server.cpu_ms() - before <= row.cpu_ms
            if row.status == 200:
                numbers = re.findall(r"-?\d+\.\d+", answer.text)
                assert np.isfinite(np.array(numbers, float)).all()
            else:
                assert not INTERNAL.search(answer.content)


def drop_ins(image: bytes) -> Iterator[tuple[str, bytes, dict[str, str], dict[int, int]]]:
    """Path, body, headers, and statuses that are told otherwise, of each drop-in protocol."""
    is_json = image.lstrip().startswith(b"{")  # and so it is read, but has no image
    yield f"/models/{NAME}", image, {}, {415: 422} if is_json else {}
    invalid = {415: 400, 422: 400}
    uri = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    yield "/v1/embeddings", json.dumps({"model": NAME, "input": uri}).encode(), {}, invalid
    size = {"binary_data_size": 4 + len(image)}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + struct.pack("<I", len(image)) + image
    yield f"/v2/models/{NAME}/infer", body, headers, invalid


@pytest.mark.parametrize("row", params([row for row in ROWS if row.code]))
def test_every_protocol_refuses_a_bad_picture_in_a_sentence(server: Watched, row: Row) -> None:
    for path, body, headers, told in drop_ins(row.make()):
        answer = server.client.post(path, content=body, headers=headers)
        assert answer.status_code == told.get(row.status, row.status)
        assert list(answer.json()) == ["error"]
        assert not INTERNAL.search(answer.content)


def shown(server: Watched, image: bytes) -> tuple[NDArray[np.float64], int]:
    """The embedding, of unit length, and the best class of a picture."""
    head = {"Content-Type": "image/png"}
    best = server.client.post("/classify?top_k=1", content=image, headers=head).json()
    embedded = server.client.post("/embed?normalize=true", content=image, headers=head).json()
    return np.array(embedded["embedding"]), best["predictions"][0]["class_id"]


@pytest.mark.parametrize("row", params([row for row in ROWS if row.shows]))
def test_a_valid_picture_is_answered_like_what_it_shows(server: Watched, row: Row) -> None:
    assert row.shows
    embedding, best = shown(server, row.make())
    expected, expected_best = shown(server, encode(row.shows().convert("RGB"), "PNG"))
    assert embedding @ expected >= row.cosine
    assert best == expected_best


@pytest.mark.parametrize("exchange", EXCHANGES, ids=str)
@pytest.mark.parametrize("route", ROUTES)
def test_every_exchange_is_answered_as_the_table_says(
    server: Watched, exchange: Exchange, route: str
) -> None:
    before = server.cpu_ms()
    pieces = exchange.make(route)
    count = len(exchange.answers)
    answers = list(server.exchange(pieces, count, closes=exchange.closes))
    assert [status for status, _ in answers[: len(pieces) - 1]] == [100] * (len(pieces) - 1)
    final = answers[len(pieces) - 1 :]
    assert tuple((status, code_of(body)) for status, body in final) == exchange.answers
    assert server.cpu_ms() - before <= exchange.cpu_ms
    assert not any(INTERNAL.search(body) for status, body in final if status != 200)


def test_the_same_picture_fifty_times_at_once_has_fifty_equal_answers(server: Watched) -> None:
    def ask(_: int) -> object:
        answer = server.client.post(
            "/embed", content=CAT.read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        return answer.json().get("embedding")

    with ThreadPoolExecutor(50) as pool:
        first, *others = pool.map(ask, range(50))
    for other in others:
        assert np.allclose(np.array(other, float), np.array(first, float), atol=1e-5)


def test_the_table_has_every_family() -> None:
    there = {one.id for one in [*ROWS, *EXCHANGES]} | {"V39"}
    assert there >= FAMILIES
