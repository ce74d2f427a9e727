"""What clients of the Open Inference Protocol ask besides one tensor: versions, several, nulls."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import numpy as np
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.app.api.routes.open_inference.test_routes import (
    INFER,
    grey,
    image,
    in_json,
    raw,
    send,
    sized,
)
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name
MODEL = f"/v2/models/{NAME}"


@pytest.mark.parametrize("path", ["config", "stats", "versions/1/config", "trace/setting"])
def test_what_a_served_model_has_not_is_not_called_an_unknown_model(
    client: httpx2.Client, path: str
) -> None:
    answer = client.get(f"{MODEL}/{path}")
    assert (answer.status_code, answer.json()) == (404, {"error": "There is nothing at this path."})


def test_health_is_told_in_json_too_as_kserve_reads_it(client: httpx2.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"{MODEL}/ready").json() == {"name": NAME, "ready": True}
    assert client.get("/v2/").json() == client.get("/v2").json()


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/livez", "/readyz", "/health", "/healthz"]
)
def test_a_probe_may_ask_with_head(client: httpx2.Client, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_pixels_that_the_engine_fails_on_are_named_by_their_index(fake_engine: FakeEngine) -> None:
    def refuse_nine(values: list[int]) -> None:
        if 9 in values:
            raise ValueError

    fake_engine.fail = refuse_nine
    (images, _), (pixels, data) = in_json(uniform(3)), raw(np.concatenate([grey(1), grey(9)]))
    with serve() as server, httpx2.Client(base_url=server.url) as client:
        failed = send(client, {"inputs": images["inputs"] + pixels["inputs"]}, data)
    assert (failed.status_code, "pixels[1]: " in failed.json()["error"]) == (500, True)


TENSOR = image()["inputs"][0]
PIXELS = raw(grey(7))[0]["inputs"][0]


@pytest.mark.parametrize(
    ("document", "behind", "sentence"),
    [
        ({"inputs": [TENSOR, TENSOR]}, b"", "A tensor is named twice"),
        ({"inputs": [TENSOR, {**PIXELS, "shape": [65, 224, 224, 3]}]}, b"", "at most 64"),
        (
            {"inputs": [{**TENSOR, "shape": [64], "data": [""] * 64}, PIXELS]},
            bytes(224 * 224 * 3),
            "at most 64",
        ),
        ({"inputs": [TENSOR, PIXELS]}, b"x", "behind the JSON"),
        ({"inputs": [*sized(4)["inputs"], PIXELS]}, bytes(224 * 224 * 3), "behind the JSON"),
        (
            {"inputs": [*sized(5)["inputs"], PIXELS]},
            bytes(5 + 224 * 224 * 3),
            "in four bytes",
        ),
    ],
)
def test_inputs_that_do_not_fit_together_are_a_bad_request(
    client: httpx2.Client, document: Any, behind: bytes, sentence: str
) -> None:
    head = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(INFER, content=head + behind, headers=headers)
    assert (answer.status_code, sentence in answer.json()["error"]) == (400, True)


def test_what_is_null_is_as_if_it_were_not_there(client: httpx2.Client) -> None:
    document = image(data=["data:image/png;base64,"])
    document["inputs"][0]["parameters"] = None
    document |= {"id": None, "parameters": None, "outputs": [{"name": "x", "parameters": None}]}
    answer = client.post(INFER, json=document)
    assert answer.json()["error"].startswith("outputs: An output is one of")
    answer = client.post(INFER, json={**document, "outputs": None})
    assert (answer.status_code, "no bytes" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(("whole", "one"), [(True, False), (False, True)])
def test_an_output_says_otherwise_than_the_request_how_it_is_sent(
    client: httpx2.Client, cat: bytes, *, whole: bool, one: bool
) -> None:
    document = image(data=[base64.b64encode(cat).decode()])
    document["parameters"] = {"binary_data_output": whole}
    document["outputs"] = [
        {"name": "logits", "parameters": {"binary_data": one}},
        {"name": "embedding"},
    ]
    answer = client.post(INFER, json=document)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    length = int(answer.headers["Inference-Header-Content-Length"])
    described = json.loads(answer.content[:length])["outputs"]
    assert ["data" in output for output in described] == [not one, not whole]
    assert len(answer.content) - length == 4 * (1001 if one else 1024)
