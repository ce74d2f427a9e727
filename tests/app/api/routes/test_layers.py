"""/embed beyond the default: layers, pooling, strides, types, and their limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import pytest

from app.inference.options import EmbedOptions
from model.checkpoints.checkpoint import Checkpoint
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import preprocess
from model.network.config import LOGITS, POOLED
from model.network.features import normalize
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NPY = {"Accept": "application/x-npy"}
NPZ = {"Accept": "application/x-npz"}


def reference(checkpoint: Checkpoint, image: bytes, layer: str, stride: int = 32) -> Any:
    pixels = preprocess(Decoder(DecodeLimits()).decode(image), checkpoint.preprocessing)
    output = load_engine(checkpoint).run(pixels[None], [layer], output_stride=stride)
    return output.arrays[layer][0]


@pytest.mark.parametrize("layer", ["5", "Conv2d_5_pointwise"])
def test_a_layer_is_pooled_globally_by_default(
    client: httpx2.Client, checkpoint: Checkpoint, cat: bytes, layer: str
) -> None:
    body = client.post(f"/embed?layer={layer}", files={"file": cat}).json()
    assert (body["layer"], body["dim"]) == ("Conv2d_5_pointwise", 256)
    expected = reference(checkpoint, cat, "Conv2d_5_pointwise").mean(axis=(0, 1))
    assert np.allclose(body["embedding"], expected, atol=1e-4)


def test_several_layers_come_by_name_in_the_order_asked_for(
    client: httpx2.Client, cat: bytes
) -> None:
    body = client.post("/embed?layer=13,5,pooled,5,11", files={"file": cat}).json()
    assert list(body["embeddings"]) == [
        "Conv2d_13_pointwise", "Conv2d_5_pointwise", "pooled", "Conv2d_11_pointwise"
    ]  # fmt: skip
    assert "embedding" not in body
    assert body["embeddings"]["pooled"] == body["embeddings"]["Conv2d_13_pointwise"]


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_a_map_is_an_array_of_height_width_channels(
    client: httpx2.Client, checkpoint: Checkpoint, cat: bytes, output_stride: int
) -> None:
    url = f"/embed?layer=13&pooling=none&output_stride={output_stride}"
    answer = client.post(url, files={"file": cat})
    assert answer.headers["Content-Type"] == "application/x-npy"
    values = np.load(BytesIO(answer.content), allow_pickle=False)
    side = 224 // output_stride
    assert (values.shape, values.dtype) == ((side, side, 1024), np.float32)
    expected = reference(checkpoint, cat, "Conv2d_13_pointwise", output_stride)
    assert np.allclose(values, expected, atol=1e-3)


def test_several_maps_are_one_npz(client: httpx2.Client, cat: bytes) -> None:
    answer = client.post("/embed?layer=0,12&pooling=none", files={"file": cat}, headers=NPZ)
    arrays = np.load(BytesIO(answer.content), allow_pickle=False)
    assert {name: array.shape for name, array in arrays.items()} == {
        "Conv2d_0": (112, 112, 32),
        "Conv2d_12_pointwise": (7, 7, 1024),
    }


def test_normalize_scales_each_place_of_a_map(client: httpx2.Client, cat: bytes) -> None:
    url = "/embed?layer=11&pooling=none"
    plain = np.load(BytesIO(client.post(url, files={"file": cat}).content))
    unit = np.load(BytesIO(client.post(f"{url}&normalize=true", files={"file": cat}).content))
    assert np.allclose(unit, normalize(plain), atol=1e-5)


def test_avg7_equals_global_pooling_at_224_and_is_a_map_beyond(
    client: httpx2.Client, cat: bytes
) -> None:
    plain = client.post("/embed", files={"file": cat}).json()["embedding"]
    avg7 = client.post("/embed?pooling=avg7", files={"file": cat}).json()["embedding"]
    assert np.allclose(plain, avg7, atol=1e-4)
    answer = client.post("/embed?pooling=avg7&size=320", files={"file": cat})
    assert np.load(BytesIO(answer.content)).shape == (2, 2, 1024)


def test_float16_halves_a_binary_answer(client: httpx2.Client, cat: bytes) -> None:
    full = np.load(BytesIO(client.post("/embed", files={"file": cat}, headers=NPY).content))
    half = client.post("/embed?dtype=float16", files={"file": cat}, headers=NPY)
    values = np.load(BytesIO(half.content))
    assert values.dtype == np.float16
    assert np.allclose(values, full, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("layer=5&pooling=none", "application/json"),
        ("pooling=avg7&size=320", "application/json"),
        ("dtype=float16", "application/json"),
        ("layer=5,11", "application/x-npy"),
        ("layer=5", "text/html"),
    ],
)
def test_what_a_media_type_cannot_carry_is_not_acceptable(
    client: httpx2.Client, cat: bytes, query: str, accept: str
) -> None:
    answer = client.post(f"/embed?{query}", files={"file": cat}, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_many_images_are_answered_in_json_alone(client: httpx2.Client, cat: bytes) -> None:
    several = client.post("/embed/batch?layer=5,13", files=[("file", cat)] * 2).json()
    assert [list(one["embeddings"]) for one in several["results"]] == [
        ["Conv2d_5_pointwise", "Conv2d_13_pointwise"]
    ] * 2
    answer = client.post("/embed/batch?pooling=none", files={"file": cat})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize(
    "query", ["layer=14", "layer=", "layer=5,", "layer=Conv2d_3_depthwise", "pooling=max",
              "output_stride=4", "output_stride=x", "output_stride=08", "dtype=float64"]
)  # fmt: skip
def test_what_no_network_has_is_refused(client: httpx2.Client, cat: bytes, query: str) -> None:
    answer = client.post(f"/embed?{query}", files={"file": cat})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_an_output_over_the_limit_is_refused_uncomputed_and_half_precision_halves_it(
    fake_engine: FakeEngine,
) -> None:
    with serve(max_output_mib=1) as server:
        ran = len(fake_engine.batches)
        url = f"{server.url}/embed?layer=0&pooling=none"
        answer = httpx2.post(url, files={"file": uniform(1)})
        assert (answer.status_code, answer.json()["code"]) == (413, "output_too_large")
        assert answer.headers.get("Connection") != "close"
        assert "MAX_OUTPUT_MIB" in answer.json()["detail"]
        assert len(fake_engine.batches) == ran
        single = httpx2.post(url, files={"file": uniform(1)}, headers=NPY)
        half = httpx2.post(f"{url}&dtype=float16", files={"file": uniform(1)}, headers=NPY)
        assert (single.status_code, half.status_code) == (413, 200)


def ask_at_once(fake_engine: FakeEngine, urls: list[str]) -> list[httpx2.Response]:
    """Let the requests wait together behind a batch that is held; image n is of value n."""
    fake_engine.streams = 1
    with serve(max_batch_size=8) as server, ThreadPoolExecutor(8) as pool:
        while fake_engine.entered.acquire(blocking=False):
            pass
        fake_engine.hold()
        pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(200)})
        fake_engine.entered.acquire()
        calls = [
            pool.submit(httpx2.post, f"{server.url}/{url}", files={"file": uniform(value)})
            for value, url in enumerate(urls)
        ]
        server.wait_for(lambda: server.batcher.waiting == len(urls))
        fake_engine.gate.set()
        return [call.result() for call in calls]


def test_one_batch_serves_requests_that_want_different_layers(fake_engine: FakeEngine) -> None:
    urls = ["classify", "embed", "embed?layer=5", "embed?layer=11,13"]
    answers = ask_at_once(fake_engine, urls)
    assert sorted(fake_engine.batches[-1]) == [0, 1, 2, 3]
    assert fake_engine.outputs[-1] == {
        LOGITS, POOLED, "Conv2d_5_pointwise", "Conv2d_11_pointwise"
    }  # fmt: skip
    assert [answer.json()["batch_size"] for answer in answers] == [4] * 4
    assert answers[2].json()["embedding"][0] == 2
    assert {values[0] for values in answers[3].json()["embeddings"].values()} == {3}


def test_output_strides_that_differ_never_share_a_batch(fake_engine: FakeEngine) -> None:
    strides = [32, 16, 32, 8, 16]
    answers = ask_at_once(fake_engine, [f"embed?output_stride={stride}" for stride in strides])
    assert [answer.status_code for answer in answers] == [200] * 5
    ran = list(zip(fake_engine.strides, map(sorted, fake_engine.batches), strict=True))
    assert sorted(ran[-3:]) == [(8, [3]), (16, [1, 4]), (32, [0, 2])]


def test_a_batch_counts_the_images_that_it_has(fake_engine: FakeEngine) -> None:
    with serve(max_output_mib=0.01) as server:
        url = f"{server.url}/embed/batch"
        files = [("file", uniform(1))] * 3
        assert httpx2.post(url, files=files[:1]).status_code == 200
        assert httpx2.post(url, files=files).json()["code"] == "output_too_large"


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ({}, 1),
        ({"size": 512, "output_stride": 8}, 24),
        ({"layers": ("Conv2d_0",)}, 0.02),
        ({"size": 112}, 0.25),
    ],
    ids=["default", "large and dilated", "shallow", "small"],
)
def test_a_request_costs_its_multiply_adds(
    live_server: LiveServer, options: dict[str, Any], cost: float
) -> None:
    service = live_server.server.lifecycle.service
    plan = service.embed_plan(EmbedOptions(**options))
    assert service.pipeline.predict_engine_cost(plan) == pytest.approx(cost, rel=0.05)
