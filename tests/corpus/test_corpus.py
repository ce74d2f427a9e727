"""Every row of the corpus over real sockets, to a server in a process of its own."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.corpus.exchanges import Exchange, of_a_large_photo
from tests.corpus.row import CAT, Row, phone_photo
from tests.corpus.server import Watched, watch
from tests.corpus.table import EXCHANGES, ROWS
from tests.model.images.image_files import encode

pytestmark = pytest.mark.reliability

Meaning = tuple[NDArray[np.float64], int]
"""An image's embedding, of unit length, and its best class."""
Shown = Callable[[Callable[[], Image.Image]], Meaning]

NAME = DEFAULT_DIRECTORY.name
INTERNAL = re.compile(
    rb"0x|Traceback|object at|site-packages|\.py\b|/(?:home|usr|tmp|app|etc)/|Error\b"
)
"""What an answer would hold if it told an exception's text, an address or a path."""


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    with watch() as server:
        yield server
        server.check()
        server.check_log()


@pytest.fixture(scope="module")
def photo_s(server: Watched) -> float:
    """What a phone's photo takes of the server's processor time, in seconds."""
    return server.work_of(lambda: post_all(server, phone_photo()))


@pytest.fixture(scope="module")
def shown(server: Watched) -> Shown:
    """Asks once for each plain image that rows show."""
    return cache(
        lambda show: meaning(
            post_all(server, encode(show().convert("RGB"), "PNG", compress_level=1))
        )
    )


def params(rows: list[Row], quick: Collection[Row] = ()) -> list[object]:
    def mark(row: Row) -> list[pytest.MarkDecorator]:
        if row.slow:
            return [pytest.mark.slow]
        return [pytest.mark.thorough] if quick and row not in quick else []

    return [pytest.param(row, id=str(row), marks=mark(row)) for row in rows]


def code_of(body: bytes) -> str | None:
    code: str | None = json.loads(body).get("code")
    return code


def post_all(server: Watched, image: bytes, *, multipart: bool = True) -> list[httpx2.Response]:
    """Its classes, sent as it is, and its embedding, sent as a form."""
    raw: Any = {"content": image, "headers": {"Content-Type": "image/jpeg"}}
    form: Any = {"files": {"file": image}} if multipart else raw
    return [
        server.client.post("/classify?top_k=1", **raw),
        server.client.post("/embed?normalize=true", **form),
    ]


def meaning(answers: list[httpx2.Response]) -> Meaning:
    classified, embedded = (answer.json() for answer in answers)
    return np.array(embedded["embedding"]), classified["predictions"][0]["class_id"]


@pytest.mark.parametrize("row", params(ROWS))
def test_every_image_is_answered_as_the_table_says(
    server: Watched, shown: Shown, photo_s: float, row: Row
) -> None:
    image, answers = row.make(), list[httpx2.Response]()
    most_s = 3 * row.work * photo_s
    work_s = server.work_of(
        lambda: answers.extend(post_all(server, image, multipart=row.multipart)), enough=most_s
    )
    assert work_s <= most_s
    for answer in answers:
        assert (answer.status_code, code_of(answer.content)) == (row.status, row.code)
        assert row.status == 200 or not INTERNAL.search(answer.content)
    if row.status == 200:
        embedding, best = meaning(answers[:2])
        assert np.isfinite(embedding).all()
        if row.shows:
            expected, expected_best = shown(row.shows)
            assert embedding @ expected >= row.cosine
            assert best == expected_best


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


REFUSED = {(row.status, row.code): row for row in ROWS if row.code}
"""One for each code: the others' answers come about in the same way."""


@pytest.mark.parametrize("row", params([row for row in ROWS if row.code], REFUSED.values()))
def test_every_protocol_refuses_a_bad_image_in_a_sentence(server: Watched, row: Row) -> None:
    for path, body, headers, told in drop_ins(row.make()):
        answer = server.client.post(path, content=body, headers=headers)
        assert answer.status_code == told.get(row.status, row.status)
        assert list(answer.json()) == ["error"]
        assert not INTERNAL.search(answer.content)


@pytest.fixture(scope="module")
def long_s(server: Watched) -> float:
    """What a good request as long as any takes of the server's processor time, in seconds."""
    (answer,) = (status for status, _ in server.exchange(of_a_large_photo("/classify"), 1))
    assert answer == 200
    return server.work_of(lambda: list(server.exchange(of_a_large_photo("/classify"), 1)))


@pytest.mark.parametrize("exchange", EXCHANGES, ids=str)
@pytest.mark.parametrize("route", ["/classify", pytest.param("/embed", marks=pytest.mark.thorough)])
def test_every_exchange_is_answered_as_the_table_says(
    server: Watched, exchange: Exchange, route: str, long_s: float
) -> None:
    pieces, count = exchange.make(route), len(exchange.answers)

    def check() -> None:
        answers = list(server.exchange(pieces, count, closes=exchange.closes))
        interim, final = answers[:-count], answers[-count:]
        assert [status for status, _ in interim] == [100] * (len(pieces) - 1)
        assert tuple((status, code_of(body)) for status, body in final) == exchange.answers
        assert not any(INTERNAL.search(body) for status, body in final if status != 200)

    assert server.work_of(check, enough=3 * long_s) <= 3 * long_s


def test_the_same_image_fifty_times_at_once_has_fifty_equal_answers(server: Watched) -> None:
    def ask(_: int) -> object:
        answer = server.client.post(
            "/embed", content=CAT.read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        return answer.json().get("embedding")

    with ThreadPoolExecutor(50) as pool:
        first, *others = pool.map(ask, range(50))
    for other in others:
        assert np.allclose(np.array(other, float), np.array(first, float), atol=1e-5)
