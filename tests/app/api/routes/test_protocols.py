"""What the protocols have in common: batches, refusals, and their place in the OpenAPI document."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import numpy as np
import pytest

from app.errors import ShuttingDownError
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name
HUGGING_FACE = f"/models/{NAME}"
OPENAI = "/v1/embeddings"
OPEN_INFERENCE = f"/v2/models/{NAME}/infer"
PATHS = [HUGGING_FACE, OPENAI, OPEN_INFERENCE]


def in_base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def body_of(path: str, image: bytes) -> bytes:
    """One image as a protocol sends it."""
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [in_base64(image)]}
    documents: dict[str, Any] = {
        HUGGING_FACE: {"inputs": in_base64(image)},
        OPENAI: {"model": NAME, "input": f"data:;base64,{in_base64(image)}"},
        OPEN_INFERENCE: {"inputs": [tensor]},
    }
    return json.dumps(documents[path]).encode()


def assert_shape(path: str, document: Any) -> None:
    """It is an error as the protocol of a path has it."""
    if path.startswith("/v1/"):
        assert list(document) == ["error"]
        assert list(document["error"]) == ["message", "type", "param", "code"]
        sentence = document["error"]["message"]
    else:
        assert list(document) == ["error"]
        sentence = document["error"]
    assert sentence.endswith(".")


def expect(path: str, answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    assert_shape(path, answer.json())


def occupy(server: LiveServer, engine: FakeEngine, pool: ThreadPoolExecutor) -> None:
    """Keep the only stream in the engine, so that what comes next has to wait."""
    while engine.entered.acquire(blocking=False):
        pass
    engine.hold()
    pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(200)})
    engine.entered.acquire()


def test_requests_of_all_protocols_share_a_batch(fake_engine: FakeEngine) -> None:
    fake_engine.streams = 1
    with serve(max_batch_size=8) as server, ThreadPoolExecutor(8) as pool:
        occupy(server, fake_engine, pool)
        pixels = np.full((1, 224, 224, 3), 5, np.uint8)
        tensor = {"name": "pixels", "shape": [1, 224, 224, 3], "datatype": "UINT8"}
        by_pixels = json.dumps({"inputs": [{**tensor, "data": pixels.ravel().tolist()}]})
        calls = [
            pool.submit(httpx2.post, f"{server.url}{path}", content=body_of(path, uniform(value)))
            for value, path in enumerate(PATHS)
        ]
        calls += [
            pool.submit(httpx2.post, f"{server.url}/{path}", files={"file": uniform(3 + value)})
            for value, path in enumerate(("classify", "embed"))
        ]
        calls.append(pool.submit(httpx2.post, f"{server.url}{OPEN_INFERENCE}", content=by_pixels))
        server.wait_for(lambda: server.batcher.waiting == 6)
        fake_engine.gate.set()
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert sorted(fake_engine.batches[-1]) == [0, 1, 2, 3, 4, 5]
    assert answers[3].json()["batch_size"] == 6
    (tensor_of_pixels,) = [
        one for one in answers[5].json()["outputs"] if one["name"] == "embedding"
    ]
    assert set(tensor_of_pixels["data"]) == {5}


@pytest.mark.parametrize("path", [OPENAI, OPEN_INFERENCE])
def test_a_bad_image_does_not_disturb_the_batch_of_others(
    fake_engine: FakeEngine, path: str
) -> None:
    fake_engine.streams = 1

    def refuse_nine(values: list[int]) -> None:
        if 9 in values:
            raise ValueError

    fake_engine.fail = refuse_nine
    with serve(max_batch_size=8) as server, ThreadPoolExecutor(4) as pool:
        occupy(server, fake_engine, pool)
        good, bad = [
            pool.submit(httpx2.post, f"{server.url}{path}", content=body_of(path, uniform(value)))
            for value in (1, 9)
        ]
        server.wait_for(lambda: server.batcher.waiting == 2)
        fake_engine.gate.set()
        assert good.result().status_code == 200
        expect(path, bad.result(), 500)


@pytest.fixture(scope="module")
def strict_server() -> Iterator[LiveServer]:
    with serve(max_body_mib=0.01, max_batch_body_mib=0.01) as server:
        yield server


@pytest.fixture(scope="module")
def hasty_server() -> Iterator[LiveServer]:
    with serve(body_timeout_s=0.05, header_timeout_s=0.05) as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_has_the_shape_of_the_protocol_that_asked(
    client: httpx2.Client, strict_server: LiveServer, path: str
) -> None:
    expect(path, client.delete(path), 405)
    assert client.put(path).headers["Allow"]
    invalid = 422 if path == HUGGING_FACE else 400
    expect(path, client.post(path, content=b"{}"), invalid)
    expect(path, client.post(path, content=body_of(path, b"\xff\xd8\xff")), invalid)
    unsupported = 415 if path == HUGGING_FACE else 400
    expect(path, client.post(path, content=body_of(path, b"<svg/>")), unsupported)
    expect(path, client.post(path, content=b"{", headers={"Content-Type": "text/json"}), 400)
    expect(path, client.post(f"{path}?a=1&a=2"), invalid)
    late = {"X-Request-Timeout-Ms": "-1"}
    expect(path, client.post(path, content=body_of(path, uniform(1)), headers=late), invalid)
    url = f"{strict_server.url}{path}"
    declared = httpx2.post(url, content=b"{" * 11_000)
    expect(path, declared, 413)
    assert declared.headers["Connection"] == "close"
    expect(path, httpx2.post(url, content=iter([b"{" * 6000] * 2)), 413)


@pytest.mark.parametrize("path", ["/models/x", "/v1/x", "/v1/models/x", "/v2/x", "/v2/models/x/y"])
def test_what_is_not_there_is_not_found_in_the_shape_of_its_protocol(
    client: httpx2.Client, path: str
) -> None:
    expect(path, client.request("POST" if path == "/models/x" else "GET", path), 404)


@pytest.mark.parametrize("path", PATHS)
def test_a_full_queue_and_the_end_have_the_shape_of_the_protocol_that_asked(
    fake_engine: FakeEngine, path: str
) -> None:
    fake_engine.streams = 1
    with serve(queue_ms=0.001, max_batch_size=1) as server, ThreadPoolExecutor(1) as pool:
        occupy(server, fake_engine, pool)
        refused = httpx2.post(f"{server.url}{path}", content=body_of(path, uniform(2)))
        expect(path, refused, 429)
        assert int(refused.headers["Retry-After"]) >= 1
        fake_engine.gate.set()
        server.wait_for(lambda: server.batcher.admission.work == 0)
        server.batcher.admission.close(ShuttingDownError)
        expect(path, httpx2.post(f"{server.url}{path}", content=b"{}"), 503)
        route = path.replace(NAME, "{model:path}")
        for status in ("429", "503"):
            counted = partial(server.metric, "mobilenet_requests_total", route=route, status=status)
            server.wait_for(lambda: counted() == 1)  # noqa: B023  # it is called at once


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Transfer-Encoding: chunked\r\n\r\nX\r\n", 400),
        ("Host: y\r\n\r\n", 400),
        ("X: " + "x" * 17_000 + "\r\n\r\n", 431),
    ],
    ids=["bad chunk", "two hosts", "long headers"],
)
def test_the_last_answer_of_a_connection_has_the_shape_of_the_protocol_that_asked(
    live_server: LiveServer, path: str, head: str, status: int
) -> None:
    expect_last(live_server, path, head, status)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("head", ["Content-Length: 9\r\n\r\n{", "Content-Length: 9\r\n"])
def test_a_client_that_is_too_slow_is_told_in_the_shape_of_its_protocol(
    hasty_server: LiveServer, path: str, head: str
) -> None:
    expect_last(hasty_server, path, head, 408)


def expect_last(server: LiveServer, path: str, head: str, status: int) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"POST {path}?a=1 HTTP/1.1\r\nHost: x\r\n{head}".encode())
        answer = connection.makefile("rb").read()
    start, _, body = answer.partition(b"\r\n\r\n")
    assert start.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in start.lower()
    assert_shape(path, json.loads(body))


def test_the_routes_are_declared_with_their_bodies_and_without_dangling_references(
    client: httpx2.Client,
) -> None:
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    for path in ("/models/{model}", OPENAI, "/v2/models/{model}/infer"):
        operation = paths[path]["post"]
        content = operation["requestBody"]["content"]
        assert content["application/json"]["schema"]["properties"]
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]
        error = operation["responses"]["429"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][error.rpartition("/")[2]]
        assert list(schema["properties"]) == ["error"]
        assert operation["responses"].get("422", {}) != paths["/labels"]["get"]["responses"]["422"]
    for path in ("/v1/models", "/v1/models/{model}", "/v2", "/v2/models/{model}"):
        assert paths[path]["get"]["responses"]["200"]["content"]
    for reference in references(document):
        _, components, kind, name = reference.split("/")
        assert name in document[components][kind]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from references(value)
