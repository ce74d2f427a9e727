"""What a request leaves is freed at once: the garbage collector would stop the event loop."""

from __future__ import annotations

import base64
import gc
import http.client
import json
from collections.abc import Callable

import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer

REQUESTS = 20
TRIES = 3
"""Other threads of this process leave something now and then, but not each time."""
NAME = DEFAULT_DIRECTORY.name
JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'


def encode(image: bytes) -> str:
    return base64.b64encode(image).decode()


def openai(image: bytes) -> bytes:
    return json.dumps({"model": NAME, "input": f"data:;base64,{encode(image)}"}).encode()


def hugging_face(image: bytes) -> bytes:
    return json.dumps({"inputs": encode(image)}).encode()


def open_inference(image: bytes) -> bytes:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encode(image)]}
    return json.dumps({"inputs": [tensor]}).encode()


def collect_after(
    server: LiveServer, path: str, make: Callable[[bytes], bytes], kind: str, cat: bytes
) -> tuple[set[int], int]:
    """The statuses of some requests, and how many objects only the collector frees."""
    connection = http.client.HTTPConnection(*server.address)

    def ask(number: int) -> int:
        connection.request("POST", path, make(cat + bytes([number])), {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    ask(255)  # what the first one loads stays
    gc.disable()
    gc.freeze()  # so that only what the requests leave is walked
    try:
        for _ in range(TRIES):
            statuses, garbage = {ask(number) for number in range(REQUESTS)}, gc.collect()
            if garbage < REQUESTS:
                break
        return statuses, garbage
    finally:
        gc.unfreeze()
        gc.enable()
        connection.close()


@pytest.mark.parametrize(
    "asked",
    [
        ("/classify", bytes, "image/jpeg", 200),
        ("/classify", lambda image: PART % image + b"--B--\r\n", FORM, 200),
        ("/classify", lambda image: PART % image, FORM, 400),
        ("/classify", lambda image: image[-1:], "image/jpeg", 415),
        ("/classify?top_k=0", bytes, "image/jpeg", 422),
        ("/embed", bytes, "image/jpeg", 200),
        ("/embed/batch", lambda image: PART % image + PART % b"" + b"--B--\r\n", FORM, 200),
        (f"/models/{NAME}", hugging_face, JSON, 200),
        ("/v1/embeddings", openai, JSON, 200),
        (f"/v2/models/{NAME}/infer", open_inference, JSON, 200),
    ],
)
def test_a_request_leaves_nothing_for_the_collector(
    live_server: LiveServer, cat: bytes, asked: tuple[str, Callable[[bytes], bytes], str, int]
) -> None:
    path, make, kind, status = asked
    statuses, garbage = collect_after(live_server, path, make, kind, cat)
    assert statuses == {status}
    assert garbage < REQUESTS


def test_a_refusal_leaves_nothing_for_the_collector(live_server: LiveServer, cat: bytes) -> None:
    with live_server.batcher.admission.reserve(1e6):
        statuses, garbage = collect_after(live_server, "/classify", bytes, "image/jpeg", cat)
    assert statuses == {429}
    assert garbage < REQUESTS
