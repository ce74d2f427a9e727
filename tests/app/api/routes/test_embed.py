from __future__ import annotations

from io import BytesIO

import httpx2
import numpy as np
import pytest

from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess


def test_an_embedding_is_the_pooled_features(
    client: httpx2.Client, checkpoint: Checkpoint, cat: bytes
) -> None:
    pixels = preprocess(Decoder(DecodeLimits()).decode(cat), checkpoint.preprocessing)
    expected = load_engine(checkpoint).run(pixels[None]).pooled[0]
    body = client.post("/embed", files={"file": cat}).json()
    assert list(body) == [
        "model", "embedding", "dim", "layer", "timing_ms", "batch_size", "request_id"
    ]  # fmt: skip
    assert (body["dim"], body["layer"], body["model"]) == (1024, "pooled", checkpoint.name)
    assert np.allclose(body["embedding"], expected, atol=1e-4)


def test_a_normalized_embedding_has_unit_length(client: httpx2.Client, cat: bytes) -> None:
    plain = np.array(client.post("/embed", files={"file": cat}).json()["embedding"])
    unit = client.post("/embed?normalize=true", files={"file": cat}).json()["embedding"]
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    assert np.allclose(unit, plain / np.linalg.norm(plain), atol=1e-6)


def test_npy_carries_the_same_numbers(client: httpx2.Client, cat: bytes) -> None:
    headers = {"Accept": "application/x-npy"}
    answer = client.post("/embed", files={"file": cat}, headers=headers)
    assert answer.headers["Content-Type"] == "application/x-npy"
    assert "inference;dur=" in answer.headers["Server-Timing"]
    values = np.load(BytesIO(answer.content), allow_pickle=False)
    assert (values.shape, values.dtype) == ((1024,), np.float32)
    expected = client.post("/embed", files={"file": cat}).json()["embedding"]
    assert np.allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/x-npy;q=0.5, application/json;q=0.9", "application/json"),
        ("application/json;q=0.5, application/x-npy", "application/x-npy"),
        ("text/html, application/x-npy;q=0.1", "application/x-npy"),
    ],
)
def test_the_client_chooses_the_representation(
    client: httpx2.Client, cat: bytes, accept: str, media_type: str
) -> None:
    answer = client.post("/embed", files={"file": cat}, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == media_type


@pytest.mark.parametrize("accept", ["text/html", "image/webp", "application/json;q=0"])
def test_another_representation_is_not_acceptable(
    client: httpx2.Client, cat: bytes, accept: str
) -> None:
    answer = client.post("/embed", files={"file": cat}, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_embed_has_no_classes_to_choose_from(client: httpx2.Client, cat: bytes) -> None:
    answer = client.post("/embed?top_k=3", files={"file": cat})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
