"""The Hugging Face inference API, asked by its own client."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from PIL import Image

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, Checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.network.scores import softmax
from tests import optional
from tests.conftest import IMAGES, LiveServer

CAT = IMAGES / "cat.jpg"
NAME = DEFAULT_DIRECTORY.name

Function = Literal["softmax", "sigmoid", "none"]


@pytest.fixture(scope="module")
def hub(live_server: LiveServer) -> InferenceClient:
    return InferenceClient(model=f"{live_server.url}/models/{NAME}", timeout=30)


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the pipeline of `transformers` answers on the same checkpoint, by function."""
    pixels = preprocess(Decoder(DecodeLimits()).decode(CAT.read_bytes()), checkpoint.preprocessing)
    logits = load_engine(checkpoint).run(pixels[None]).logits[0]
    labels = checkpoint.config.id2label
    scores = {"softmax": softmax(logits), "sigmoid": 1 / (1 + np.exp(-logits)), "none": logits}
    ranked = {
        name: [
            {"label": labels[at], "score": float(of[at])} for at in np.argsort(-of, kind="stable")
        ]
        for name, of in scores.items()
    }
    return {"default": ranked["softmax"][:5], **ranked}


@pytest.mark.thorough
def test_the_reference_is_what_the_pipeline_of_transformers_answers(
    reference: dict[str, Any],
) -> None:
    classify = optional.transformers.pipeline("image-classification", model=str(DEFAULT_DIRECTORY))
    assert_same(classify(str(CAT)), reference["default"])
    for name in ("softmax", "sigmoid", "none"):
        answer = classify(str(CAT), function_to_apply=name, top_k=1001)
        assert_same(answer, reference[name])


def as_path() -> Path:
    return CAT


def as_text() -> str:
    return str(CAT)


def as_bytes() -> bytes:
    return CAT.read_bytes()


def pairs(answer: Any) -> list[tuple[str, float]]:
    return [(row["label"], row["score"]) for row in answer]


def assert_same(answer: Any, expected: Any) -> None:
    assert [label for label, _ in pairs(answer)] == [label for label, _ in pairs(expected)]
    scores = [score for _, score in pairs(answer)]
    assert scores == pytest.approx([score for _, score in pairs(expected)], abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("image", [as_path, as_text, as_bytes])
@pytest.mark.parametrize("top_k", [None, 1, 1001])
def test_its_client_is_answered_like_the_pipeline_of_transformers(
    hub: InferenceClient,
    reference: dict[str, Any],
    image: Callable[[], Any],
    top_k: int | None,
) -> None:
    answer = hub.image_classification(image(), top_k=top_k)
    assert_same(answer, reference["softmax"][:top_k] if top_k else reference["default"])
    assert answer[0].label == "tabby, tabby cat"


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_each_function_gives_the_scores_of_the_pipeline(
    hub: InferenceClient, reference: dict[str, Any], function: Function
) -> None:
    answer = hub.image_classification(CAT, function_to_apply=function, top_k=1001)
    assert_same(answer, reference[function])


def test_more_classes_than_there_are_give_all_as_the_pipeline_does(hub: InferenceClient) -> None:
    assert len(hub.image_classification(CAT, top_k=5000)) == 1001


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own affair
@pytest.mark.parametrize("image", [as_path, as_bytes])
async def test_the_async_client_has_the_same_answer(
    live_server: LiveServer, hub: InferenceClient, image: Callable[[], Any]
) -> None:
    url = f"{live_server.url}/models/{NAME}"
    async with AsyncInferenceClient(model=url) as client:
        answer = await client.image_classification(image())
        sigmoid = await client.image_classification(image(), function_to_apply="sigmoid", top_k=3)
    assert_same(answer, hub.image_classification(CAT))
    assert len(sigmoid) == 3


@pytest.mark.parametrize("top_k", [None, 2])
def test_open_files_are_refused_by_the_client_itself_and_what_they_hold_is_answered(
    hub: InferenceClient, reference: dict[str, Any], top_k: int | None
) -> None:
    with CAT.open("rb") as file, Image.open(CAT) as image:
        content = file.read()
        for given in (file, io.BytesIO(content), bytearray(content), image):
            with pytest.raises(ValueError, match="Expected binary inputs or a local path or a URL"):
                hub.image_classification(given, top_k=top_k)
    answer = hub.image_classification(content, top_k=top_k)
    assert_same(answer, reference["default"][:top_k])


def test_headers_for_the_hubs_own_servers_change_nothing(
    live_server: LiveServer, reference: dict[str, Any]
) -> None:
    headers = {"X-Wait-For-Model": "true", "X-Use-Cache": "false", "Accept": "text/html"}
    url = f"{live_server.url}/models/{NAME}"
    client = InferenceClient(base_url=url, headers=headers, token="hf_nobody")  # noqa: S106  # none
    assert_same(client.image_classification(CAT), reference["default"])


def test_a_data_uri_is_an_image_and_options_of_the_hub_are_ignored(
    client: httpx2.Client,
) -> None:
    uri = f"data:image/jpeg;base64,{base64.b64encode(CAT.read_bytes()).decode()}"
    answer = client.post(f"/models/{NAME}", json={"inputs": uri, "options": {"use_cache": False}})
    assert answer.json()[0]["label"] == "tabby, tabby cat"


def test_a_body_is_an_image_whatever_its_type_is_called(client: httpx2.Client, cat: bytes) -> None:
    for content_type in ("application/x-www-form-urlencoded", "application/json", "text/plain"):
        answer = client.post(f"/models/{NAME}", content=cat, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()[0]["label"]) == (200, "tabby, tabby cat")


def test_a_bad_image_is_an_error_whose_sentence_the_client_shows(hub: InferenceClient) -> None:
    with pytest.raises(HfHubHTTPError, match="cannot be read") as refused:
        hub.image_classification(b"\xff\xd8\xff")
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.text) == {
        "error": "The image begins like an allowed format, but cannot be read."
    }


def test_a_model_that_is_not_served_is_not_found(live_server: LiveServer) -> None:
    client = InferenceClient(model=f"{live_server.url}/models/google/nothing")
    with pytest.raises(HfHubHTTPError, match="No model of that name") as refused:
        client.image_classification(CAT)
    assert refused.value.response.status_code == 404


def test_json_that_is_cut_is_a_bad_request(hub: InferenceClient) -> None:
    with pytest.raises(BadRequestError, match="not valid JSON"):
        hub.image_classification(b'{"inputs": "')


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 422, "no bytes"),
        (b'{"inputs": ""}', 422, "no bytes"),
        (b'{"inputs": 5}', 422, "inputs: "),
        (b'{"parameters": {}}', 422, "inputs: "),
        (b'{"inputs": "", "s3cret": 1}', 422, "unknown field"),
        (b'{"inputs": "", "parameters": {"s3cret": 1}}', 422, "unknown field"),
        (b'{"inputs": "", "parameters": {"top_k": 0}}', 422, "parameters.top_k: "),
        (b'{"inputs": "", "parameters": {"function_to_apply": "s3cret"}}', 422, "'softmax'"),
        (b'{"inputs": "http://localhost/cat.jpg"}', 422, "base64"),
        (b'{"inputs":' + b"[" * 100_000, 400, "JSON"),
        (b'{"inputs":[' + b"1," * 1_300_000 + b"1]}", 400, "values"),
        (b"<svg/>", 415, "not a JPEG"),
    ],
    ids=[
        "empty", "empty text", "number", "none", "unknown", "unknown parameter", "top_k",
        "function", "link", "nested", "many values", "svg",
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_told_in_one_sentence(
    client: httpx2.Client, body: bytes, status: int, sentence: str
) -> None:
    answer = client.post(f"/models/{NAME}", content=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]
    assert "s3cret" not in answer.text
