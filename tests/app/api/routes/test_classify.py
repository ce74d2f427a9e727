from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.network.scores import softmax, top_k


def reference(checkpoint: Checkpoint, image: bytes, k: int, side: int | None = None) -> list[Any]:
    preprocessing = checkpoint.preprocessing.with_side(side)
    pixels = preprocess(Decoder(DecodeLimits()).decode(image), preprocessing)
    output = load_engine(checkpoint).run(pixels[None])
    return top_k(softmax(output.logits[0]), k)


def as_multipart(client: httpx2.Client, image: bytes) -> httpx2.Response:
    return client.post("/classify", files={"file": ("cat.jpg", image, "image/jpeg")})


def as_raw(client: httpx2.Client, image: bytes) -> httpx2.Response:
    return client.post("/classify", content=image, headers={"Content-Type": "image/jpeg"})


def as_octets(client: httpx2.Client, image: bytes) -> httpx2.Response:
    headers = {"Content-Type": "application/octet-stream"}
    return client.post("/classify", content=image, headers=headers)


def as_base64(client: httpx2.Client, image: bytes) -> httpx2.Response:
    return client.post("/classify", json={"image": base64.b64encode(image).decode()})


def as_data_uri(client: httpx2.Client, image: bytes) -> httpx2.Response:
    uri = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    return client.post("/classify", json={"image": uri})


@pytest.mark.parametrize("send", [as_multipart, as_raw, as_octets, as_base64, as_data_uri])
def test_a_cat_is_a_tabby_cat_however_it_is_sent(
    client: httpx2.Client, checkpoint: Checkpoint, cat: bytes, send: Any
) -> None:
    answer = send(client, cat)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["model", "predictions", "timing_ms", "batch_size", "request_id"]
    assert body["model"] == "mobilenet_v1_1.0_224"
    best = body["predictions"][0]
    assert (best["class_id"], best["wnid"], best["label"]) == (282, "n02123045", "tabby, tabby cat")
    expected = reference(checkpoint, cat, 5)
    assert [row["class_id"] for row in body["predictions"]] == [one for one, _ in expected]
    assert [row["score"] for row in body["predictions"]] == pytest.approx(
        [score for _, score in expected], abs=1e-4
    )


def test_all_classes_are_ranked_and_their_scores_add_up_to_one(
    client: httpx2.Client, cat: bytes
) -> None:
    answer = client.post("/classify?top_k=1001", files={"file": cat})
    scores = [row["score"] for row in answer.json()["predictions"]]
    assert len(scores) == 1001
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_min_score_leaves_out_what_scores_less(client: httpx2.Client, cat: bytes) -> None:
    predictions = client.post("/classify?min_score=0.25", files={"file": cat}).json()["predictions"]
    assert [row["class_id"] for row in predictions] == [282, 286]
    nothing = client.post("/classify?min_score=1", files={"file": cat})
    assert (nothing.status_code, nothing.json()["predictions"]) == (200, [])


@pytest.mark.parametrize("side", [32, 160, 224, 301, 512])
def test_size_is_the_side_that_the_network_sees(
    client: httpx2.Client, checkpoint: Checkpoint, coffee: bytes, side: int
) -> None:
    answer = client.post(f"/classify?size={side}&top_k=3", files={"file": coffee})
    expected = reference(checkpoint, coffee, 3, side)
    assert [row["score"] for row in answer.json()["predictions"]] == pytest.approx(
        [score for _, score in expected], abs=1e-4
    )


def test_the_answer_says_where_the_time_went(client: httpx2.Client, cat: bytes) -> None:
    answer = client.post("/classify", files={"file": cat})
    timing = answer.json()["timing_ms"]
    assert list(timing) == ["decode", "queue", "inference", "total"]
    assert timing["total"] >= timing["decode"] + timing["inference"] > 0
    stages = [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")]
    assert stages == ["decode", "queue", "inference", "total"]
    assert f"inference;dur={timing['inference']}" in answer.headers["Server-Timing"]


@pytest.mark.parametrize(
    "query",
    [
        "top_k=0",
        "top_k=-1",
        "top_k=1002",
        "top_k=1000000000",
        "top_k=abc",
        "top_k=NaN",
        "top_k=1&top_k=2",
        "min_score=2",
        "min_score=nan",
        "size=31",
        "size=513",
        "layer=5",
        "Top_K=3",
    ],
)
def test_a_parameter_out_of_range_or_unknown_is_refused(
    client: httpx2.Client, cat: bytes, query: str
) -> None:
    answer = client.post(f"/classify?{query}", files={"file": cat})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_an_unknown_model_is_not_found(client: httpx2.Client, cat: bytes) -> None:
    answer = client.post("/classify?model=resnet", files={"file": cat})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    served = client.post("/classify?model=mobilenet_v1_1.0_224", files={"file": cat})
    assert served.status_code == 200


def test_the_same_image_many_times_at_once_gets_equal_answers(
    client: httpx2.Client, cat: bytes
) -> None:
    def ask(_: int) -> Any:
        return client.post("/classify", files={"file": cat}).json()["predictions"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(50)))
    for answer in answers:
        assert [row["class_id"] for row in answer] == [row["class_id"] for row in answers[0]]
        assert [row["score"] for row in answer] == pytest.approx(
            [row["score"] for row in answers[0]], abs=1e-5
        )
