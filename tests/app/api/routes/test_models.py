"""Several models in one process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.settings import InvalidSettingError, load_settings
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, save_checkpoint
from model.images.preprocessor_config import Preprocessing
from model.network.config import MobileNetV1Config
from tests.conftest import LiveServer, serve
from tests.model.twins import create_weights

PETS = MobileNetV1Config(depth_multiplier=0.25, id2label={0: "cat", 1: "dog", 2: "parrot"})


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "pets"
    preprocessing = Preprocessing.model_validate(
        {"size": {"shortest_edge": 160}, "crop_size": {"height": 128, "width": 128}}
    )
    save_checkpoint(directory, PETS, preprocessing, create_weights(PETS))
    return directory


@pytest.fixture(scope="module")
def server(pets: Path) -> Iterator[LiveServer]:
    with serve(models=(DEFAULT_DIRECTORY.name, f"small={pets}")) as server:
        yield server


@pytest.fixture(scope="module")
def both(server: LiveServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_the_first_model_is_the_default(both: httpx2.Client, cat: bytes) -> None:
    assert both.post("/classify", files={"file": cat}).json()["model"] == "mobilenet_v1_1.0_224"


def test_a_model_is_chosen_by_name_and_has_its_own_labels(both: httpx2.Client, cat: bytes) -> None:
    body = both.post("/classify?model=small", files={"file": cat}).json()
    assert body["model"] == "small"
    assert sorted(row["label"] for row in body["predictions"]) == ["cat", "dog", "parrot"]
    assert {row["wnid"] for row in body["predictions"]} == {None}
    embedding = both.post("/embed?model=small", files={"file": cat}).json()
    assert (embedding["model"], embedding["dim"]) == ("small", 256)
    labels = both.get("/labels?model=small").json()["labels"]
    assert [row["label"] for row in labels] == ["cat", "dog", "parrot"]


def test_top_k_is_bounded_by_the_models_classes(both: httpx2.Client, cat: bytes) -> None:
    refused = both.post("/classify?model=small&top_k=4", files={"file": cat})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")


def test_an_unknown_model_is_not_found(both: httpx2.Client, cat: bytes) -> None:
    for answer in (
        both.post("/classify?model=large", files={"file": cat}),
        both.post("/embed?model=large", files={"file": cat}),
        both.post("/embed/batch?model=large", files={"file": cat}),
        both.get("/labels?model=large"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_info_tells_of_each(both: httpx2.Client) -> None:
    models = both.get("/info").json()["models"]
    assert [(one["name"], one["input_size"], one["num_labels"]) for one in models] == [
        ("mobilenet_v1_1.0_224", 224, 1001),
        ("small", 128, 3),
    ]


def test_all_share_one_queue_and_one_set_of_streams(server: LiveServer, cat: bytes) -> None:
    async def ask() -> set[str]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
            urls = ["/classify", "/classify?model=small"] * 8
            posts = (client.post(url, files={"file": cat}) for url in urls)
            return {answer.json()["model"] for answer in await asyncio.gather(*posts)}

    assert asyncio.run(ask()) == {"mobilenet_v1_1.0_224", "small"}
    assert len(server.batcher._threads) == server.server.lifecycle.threads


def test_two_models_of_one_name_are_refused(pets: Path) -> None:
    with pytest.raises(InvalidSettingError, match="MOBILENET_MODELS"):
        load_settings(models=f"{pets},pets={DEFAULT_DIRECTORY}")


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server whose only model has no classification layer."""
    directory = tmp_path_factory.mktemp("models") / "extractor"
    config = MobileNetV1Config(depth_multiplier=0.25, id2label={})
    save_checkpoint(directory, config, Preprocessing(), create_weights(config))
    with serve(models=(str(directory),)) as server, httpx2.Client(base_url=server.url) as client:
        yield client


def test_a_model_without_a_classifier_embeds(extractor: httpx2.Client, cat: bytes) -> None:
    body = extractor.post("/embed?layer=pooled,5", files={"file": cat}).json()
    assert {name: len(values) for name, values in body["embeddings"].items()} == {
        "pooled": 256,
        "Conv2d_5_pointwise": 64,
    }
    assert extractor.get("/labels").json() == {"model": "extractor", "labels": []}
    assert extractor.get("/info").json()["models"][0]["num_labels"] == 0


def test_a_model_without_a_classifier_does_not_classify(
    extractor: httpx2.Client, cat: bytes
) -> None:
    for route in ("/classify", "/classify/batch"):
        answer = extractor.post(route, files={"file": cat})
        assert (answer.status_code, answer.json()["code"]) == (422, "no_classifier")
    assert extractor.post("/models/extractor", content=cat).status_code == 422
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    document = {"inputs": [{**tensor, "data": [base64.b64encode(cat).decode()]}]}
    answer = extractor.post("/v2/models/extractor/infer", json=document)
    assert [output["name"] for output in answer.json()["outputs"]] == ["embedding"]
    document["outputs"] = [{"name": "logits"}]
    assert extractor.post("/v2/models/extractor/infer", json=document).status_code == 400
