from __future__ import annotations

import threading
from typing import Any

import httpx2
import pytest

from app.inference.lifecycle import Lifecycle
from model.engines.base import Engine
from model.images.decoder import Decoder
from model.images.formats.format import EncodedImage
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
def test_liveness_answers(client: httpx2.Client, path: str) -> None:
    assert client.get(path).json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/readyz", "/health"])
def test_readiness_lists_its_checks_when_asked(client: httpx2.Client, path: str) -> None:
    assert client.get(path).json() == {"status": "ready"}
    checks = {"loaded": True, "streams_alive": True, "engine_works": True, "accepting": True}
    assert client.get(f"{path}?verbose").json() == {"status": "ready", "checks": checks}


def test_while_loading_only_liveness_answers(
    monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine
) -> None:
    loading = threading.Event()
    load = Lifecycle._load_engines

    def slow(self: Lifecycle) -> list[Engine]:
        loading.wait()
        return load(self)

    monkeypatch.setattr(Lifecycle, "_load_engines", slow)
    with serve(wait_until_loaded=False) as server:
        assert httpx2.get(f"{server.url}/livez").status_code == 200
        ready = httpx2.get(f"{server.url}/readyz?verbose")
        assert (ready.status_code, ready.json()["checks"]["loaded"]) == (503, False)
        refused = httpx2.post(f"{server.url}/classify", files={"file": uniform(1)})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert refused.headers["Retry-After"] == "1"
        assert httpx2.get(f"{server.url}/info").json()["code"] == "not_ready"
        loading.set()
        server.wait_for(server.server.lifecycle.ready.is_set)
        assert httpx2.get(f"{server.url}/readyz").status_code == 200


def test_a_dead_stream_turns_readiness_red_but_not_liveness(fake_engine: FakeEngine) -> None:
    def die(values: list[int]) -> None:
        if values == [13]:
            raise SystemExit

    fake_engine.fail = die
    with serve() as server:
        refused = httpx2.post(f"{server.url}/classify", files={"file": uniform(13)})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        ready = httpx2.get(f"{server.url}/readyz?verbose")
        assert (ready.status_code, ready.json()["checks"]["streams_alive"]) == (503, False)
        assert server.metric("mobilenet_ready") == 0
        assert httpx2.get(f"{server.url}/livez").status_code == 200


def test_an_engine_that_hangs_costs_its_callers_their_time_and_readiness_but_not_liveness(
    fake_engine: FakeEngine,
) -> None:
    with serve(request_timeout_s=0.05) as server:
        ran = len(fake_engine.outputs)
        fake_engine.hold()
        while len(fake_engine.outputs) == ran:  # a busy machine may not get so far in that time
            answer = httpx2.post(f"{server.url}/classify", files={"file": uniform(1)})
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        server.wait_for(lambda: not server.server.lifecycle.checks()["streams_alive"])
        assert httpx2.get(f"{server.url}/livez").status_code == 200
        ready = httpx2.get(f"{server.url}/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
        assert ready.headers["Retry-After"] == "1"
        batches = next(watch for watch in server.server.watches if "batch has" in watch.symptom)
        assert len(list(batches.running())) == 1
        fake_engine.gate.set()
        server.wait_for(lambda: not list(batches.running()))
        assert httpx2.get(f"{server.url}/readyz").status_code == 200


def test_an_engine_that_fails_on_everything_turns_readiness_red_until_it_works_again(
    fake_engine: FakeEngine,
) -> None:
    def fail(values: list[int]) -> None:
        raise RuntimeError("the device is lost")

    with serve() as server, httpx2.Client(base_url=server.url) as client:
        broken = next(watch for watch in server.server.watches if "engine" in watch.symptom)
        working, fake_engine.fail = fake_engine.fail, fail
        for _ in range(5):
            assert client.get("/readyz").status_code == 200
            answer = client.post("/classify", files={"file": uniform(1)})
            assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        ready = client.get("/readyz?verbose")
        assert (ready.status_code, ready.json()["checks"]["engine_works"]) == (503, False)
        assert list(broken.running())
        ran = len(fake_engine.batches)
        assert client.get("/livez").status_code == 200
        assert len(fake_engine.batches) == ran  # it does not try on its own
        fake_engine.fail = working
        assert client.post("/classify", files={"file": uniform(1)}).status_code == 200
        assert client.get("/readyz").status_code == 200
        assert not list(broken.running())


def test_a_decode_thread_that_is_stuck_leaves_the_others_and_is_seen(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = threading.Event(), threading.Event()
    decode = Decoder.open

    def hang(self: Decoder, image: EncodedImage, *arguments: Any) -> object:
        if len(image.data) > 1000:
            stuck.set()
            free.wait()
        return decode(self, image, *arguments)

    with serve(threads=2) as server:
        monkeypatch.setattr(Decoder, "open", hang)
        decoding = next(watch for watch in server.server.watches if "image" in watch.symptom)
        try:
            answer = httpx2.post(
                f"{server.url}/classify",
                files={"file": uniform(1, (64, 64), "BMP")},
                headers={"X-Request-Timeout-Ms": "50"},
            )
            assert answer.status_code == 504
            assert stuck.is_set()
            assert len(list(decoding.running())) == 1
            answer = httpx2.post(f"{server.url}/classify", files={"file": uniform(1)})
            assert answer.status_code == 200
        finally:
            free.set()


def test_metrics_are_prometheus_text(client: httpx2.Client, cat: bytes) -> None:
    client.post("/classify", files={"file": cat})
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    for line in (
        'mobilenet_requests_total{route="/classify",status="200"}',
        'mobilenet_stage_duration_seconds_count{stage="inference"}',
        "mobilenet_batch_size_count",
        "mobilenet_queue_depth 0.0",
        "mobilenet_ready 1.0",
    ):
        assert line in answer.text


def test_labels_are_the_1001_classes_and_cacheable(client: httpx2.Client) -> None:
    answer = client.get("/labels")
    labels = answer.json()["labels"]
    assert len(labels) == 1001
    assert labels[0] == {"class_id": 0, "wnid": None, "label": "background"}
    assert labels[282] == {"class_id": 282, "wnid": "n02123045", "label": "tabby, tabby cat"}
    again = client.get("/labels", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/labels?model=x").json()["code"] == "model_not_found"
    assert client.get("/labels?top_k=1").json()["code"] == "invalid_parameter"


def test_info_tells_what_is_served(client: httpx2.Client) -> None:
    info = client.get("/info").json()
    (model,) = info["models"]
    assert (model["name"], model["engine"], model["device"]) == (
        "mobilenet_v1_1.0_224", "onnx", "cpu"
    )  # fmt: skip
    assert (model["input_size"], model["num_labels"], model["num_features"]) == (224, 1001, 1024)
    assert len(model["digest"]) == 64
    assert info["threads"] >= 1
    assert info["max_batch_size"] >= 1
    assert info["limits"]["max_pixels_mp"] == 25


def test_the_documentation_needs_no_other_host(client: httpx2.Client) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    for attribute in ('src="', 'href="'):
        for rest in page.split(attribute)[1:]:
            path = rest.split('"')[0]
            assert path.startswith("/static-offline-docs/")
            assert client.get(path).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/classify", "/embed", "/classify/batch", "/embed/batch", "/labels"} <= set(paths)
    body = paths["/classify"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/json", "image/*"} <= set(body)
