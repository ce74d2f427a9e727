from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from app.inference.image import ImageFile
from app.inference.options import EmbedOptions
from tests.conftest import serve
from tests.fakes import FakeEngine
from tests.image_files import uniform


def parts(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", ("x", image)) for image in images]


def test_results_come_in_the_order_sent_and_a_bad_image_fails_alone(
    client: httpx2.Client, cat: bytes, coffee: bytes
) -> None:
    images = parts(cat, b"no image", coffee, b"", cat[: len(cat) // 2])
    body = client.post("/classify/batch?top_k=1", files=images).json()
    assert list(body) == ["model", "results"]
    outcomes = [
        result["error"]["code"] if "error" in result else result["predictions"][0]["class_id"]
        for result in body["results"]
    ]
    assert outcomes == [
        282, "unsupported_image_format", 968, "empty_file", "image_truncated"
    ]  # fmt: skip
    assert body["results"][1]["error"]["status"] == 415


def test_images_can_come_as_json(client: httpx2.Client, cat: bytes, coffee: bytes) -> None:
    images = [base64.b64encode(image).decode() for image in (cat, coffee)]
    single = client.post("/embed", files={"file": coffee}).json()["embedding"]
    results = client.post("/embed/batch", json={"images": images}).json()["results"]
    assert len(results) == 2
    assert results[1]["embedding"] == pytest.approx(single, abs=1e-5)


def test_when_no_image_was_answered_the_first_error_is_the_status(client: httpx2.Client) -> None:
    answer = client.post("/classify/batch", files=parts(b"\xff\xd8", b"no image"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image")


def test_sixty_four_images_are_answered_and_one_more_is_refused(
    client: httpx2.Client, live_server: object
) -> None:
    image = uniform(100)
    answer = client.post("/classify/batch?top_k=1", files=parts(*[image] * 64))
    assert len(answer.json()["results"]) == 64
    refused = client.post("/classify/batch", files=parts(*[image] * 65))
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_files")
    encoded = [base64.b64encode(image).decode()] * 65
    refused = client.post("/classify/batch", json={"images": encoded})
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_files")


def test_many_images_go_through_a_window_and_leave_room_for_others(
    fake_engine: FakeEngine,
) -> None:
    with (
        serve(max_batch_size=2) as server,
        httpx2.Client(base_url=server.url) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        window = server.batcher.streams * 2
        while fake_engine.entered.acquire(blocking=False):
            pass
        fake_engine.hold()
        images = parts(*(uniform(value) for value in range(40)))
        before = len(fake_engine.computed)
        call = pool.submit(client.post, "/embed/batch", files=images)
        server.wait_for(
            lambda: len(fake_engine.computed) - before + server.batcher.waiting == window
        )
        service = server.server.lifecycle.service
        one = service.pipeline.predict_cost(
            ImageFile(uniform(0)), service.embed_plan(EmbedOptions())
        )
        assert server.batcher.admission.work == pytest.approx(window * one, rel=0.5)
        fake_engine.gate.set()
        results = call.result().json()["results"]
        assert [result["embedding"][0] for result in results] == list(range(40))
        assert server.batcher.admission.work == 0


def test_values_that_are_no_images_are_refused_at_the_first(client: httpx2.Client) -> None:
    body = b'{"images": [' + b"1," * 200_000 + b"1]}"
    headers = {"Content-Type": "application/json"}
    answer = client.post("/classify/batch", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
