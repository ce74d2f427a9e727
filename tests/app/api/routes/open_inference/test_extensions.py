"""What clients of the Open Inference Protocol ask besides one tensor: versions, several, nulls."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.app.api.routes.open_inference.test_routes import (
    INFER,
    address,
    files,
    image,
    raw,
    refused,
    sized,
)
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.pictures import uniform

NAME = DEFAULT_DIRECTORY.name
MODEL = f"/v2/models/{NAME}"


@pytest.fixture(scope="module")
def triton(live_server: LiveServer) -> Iterator[Any]:
    with InferenceServerClient(address(live_server)) as client:
        yield client


def grey(value: int, count: int = 1) -> NDArray[np.uint8]:
    return np.full((count, 224, 224, 3), value, np.uint8)


def test_every_model_has_one_version(triton: Any, cat: bytes) -> None:
    assert triton.is_model_ready(NAME, "1")
    assert triton.get_model_metadata(NAME, "1") == triton.get_model_metadata(NAME)
    assert triton.get_model_metadata(NAME)["versions"] == ["1"]
    answer = triton.infer(NAME, [files(cat)], model_version="1")
    assert answer.get_response()["model_version"] == "1"
    assert answer.as_numpy("logits").argmax() == 282


def test_another_version_is_not_found(triton: Any, cat: bytes) -> None:
    assert not triton.is_model_ready(NAME, "2")
    status, text = refused(triton, NAME, [files(cat)], model_version="2")
    assert (status, text) == ("404", "A model has one version, `1`.")
    status, text = refused(triton, "resnet", [files(cat)], model_version="1")
    assert (status, text.startswith("No model")) == ("404", True)


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


@pytest.mark.parametrize("binary", [True, False])
def test_several_inputs_are_answered_in_their_order(
    triton: Any, cat: bytes, coffee: bytes, *, binary: bool
) -> None:
    pixels = grey(7, 2)
    alone = triton.infer(NAME, [raw(pixels)]).as_numpy("embedding")
    images = triton.infer(NAME, [files(cat, coffee)]).as_numpy("embedding")
    inputs = [raw(pixels), files(cat, coffee, binary=binary)]
    answer = triton.infer(NAME, inputs).as_numpy("embedding")
    assert answer == pytest.approx(np.concatenate([alone, images]), abs=1e-4)
    answer = triton.infer(NAME, inputs[::-1]).as_numpy("embedding")
    assert answer == pytest.approx(np.concatenate([images, alone]), abs=1e-4)


def test_a_bad_image_of_several_inputs_is_named_by_its_place_in_its_own(
    triton: Any, cat: bytes
) -> None:
    status, text = refused(triton, NAME, [raw(grey(7, 2)), files(cat, cat[:9000])])
    assert (status, text) == ("400", "image[1]: The image ends before its last row.")


def test_pixels_that_the_engine_fails_on_are_named_by_their_index(fake_engine: FakeEngine) -> None:
    def refuse_nine(values: list[int]) -> None:
        if 9 in values:
            raise ValueError

    fake_engine.fail = refuse_nine
    pixels = np.concatenate([grey(1), grey(9)])
    with serve() as server, InferenceServerClient(address(server)) as client:
        with pytest.raises(InferenceServerException, match=r"pixels\[1\]: ") as failed:
            client.infer(NAME, [files(uniform(3)), raw(pixels)])
        assert failed.value.status() == "500"


TENSOR = image()["inputs"][0]
PIXELS = raw(grey(7))._get_tensor()


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


def test_shared_memory_is_refused_for_inputs_and_outputs(triton: Any, cat: bytes) -> None:
    tensor, output = files(cat), InferRequestedOutput("logits")
    output.set_shared_memory("region", 4004)
    status, text = refused(triton, NAME, [tensor], outputs=[output])
    assert (status, text) == ("400", "outputs: There is no shared memory.")
    tensor.set_shared_memory("region", 100)
    assert refused(triton, NAME, [tensor]) == ("400", "inputs: There is no shared memory.")
    with pytest.raises(InferenceServerException, match=r"\[404\] There is nothing"):
        triton.register_system_shared_memory("region", "/region", 100)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_refused_and_answers_are_never_compressed(
    triton: Any, cat: bytes, algorithm: str
) -> None:
    options = {"request_compression_algorithm": algorithm}
    status, text = refused(triton, NAME, [files(cat)], **options)
    assert (status, "must not be compressed" in text) == ("400", True)
    answer = triton.infer(NAME, [files(cat)], response_compression_algorithm=algorithm)
    assert answer.as_numpy("logits").shape == (1, 1001)


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


def test_options_for_sequences_and_priorities_are_ignored(triton: Any, cat: bytes) -> None:
    options = {"sequence_id": 3, "sequence_start": True, "priority": 2, "parameters": {"a": "b"}}
    assert triton.infer(NAME, [files(cat)], **options).as_numpy("logits").shape == (1, 1001)
