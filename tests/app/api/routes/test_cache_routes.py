"""The same image asked twice, over HTTP."""

from __future__ import annotations

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.app.inference.test_sharing import occupy
from tests.conftest import IMAGES, LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name
TEXT = base64.b64encode(uniform(7)).decode()
TENSOR = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
WANTED = {"name": "embedding"}
CLASSES = (f"/models/{NAME}", {"inputs": TEXT})
FEATURES = [
    ("/v1/embeddings", {"model": NAME, "input": f"data:;base64,{TEXT}"}),
    (f"/v2/models/{NAME}/infer", {"inputs": [TENSOR], "outputs": [WANTED]}),
]


def post(server: LiveServer, path: str, image: bytes) -> httpx2.Response:
    return httpx2.post(f"{server.url}{path}", files={"file": image})


def outcomes(server: LiveServer) -> tuple[float, ...]:
    name = "mobilenet_cache_requests_total"
    return tuple(server.metric(name, outcome=one) for one in ("hit", "shared", "miss"))


def test_a_kept_answer_is_not_computed_again(fake_engine: FakeEngine) -> None:
    with serve(cache_mib=1) as server:
        answers = [post(server, "/classify", uniform(7)) for _ in range(2)]
        assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
        assert fake_engine.computed.count(7) == 1
        miss, hit = (answer.json() for answer in answers)
        assert hit["predictions"] == miss["predictions"]
        timing = hit["timing_ms"]
        assert (timing["decode"], timing["queue"], timing["inference"]) == (0, 0, 0)
        assert outcomes(server) == (1, 0, 1)
        assert server.metric("mobilenet_cache_bytes") > 4 * 1001


def test_only_what_changes_the_engines_outputs_is_computed_anew(fake_engine: FakeEngine) -> None:
    image = uniform(7)
    found = {}
    with serve(cache_mib=1) as server:
        for path in (
            "/classify",
            "/classify?top_k=1&min_score=0.1",
            f"/classify?model={NAME}",
            "/classify?size=96",
            "/embed",
            "/embed?normalize=true",
            "/embed?output_stride=16",
            "/embed?layer=5",
            "/embed?layer=5&pooling=avg7",
        ):
            found[path] = post(server, path, image).headers["X-Cache"]
        headers = {"Accept": "application/x-npy"}
        url = f"{server.url}/embed?dtype=float16"
        found["npy"] = httpx2.post(url, files={"file": image}, headers=headers).headers["X-Cache"]
        for path, document in [CLASSES, *FEATURES]:
            found[path] = httpx2.post(f"{server.url}{path}", json=document).headers["X-Cache"]
    misses = [path for path, outcome in found.items() if outcome == "miss"]
    assert misses == [
        "/classify",
        "/classify?size=96",
        "/embed",
        "/embed?output_stride=16",
        "/embed?layer=5",
    ]
    assert set(found.values()) == {"hit", "miss"}


HUGGING_FACE = CLASSES[0]
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/classify", {}),
    ("/classify?top_k=2", {}),
    ("/classify?top_k=1001", {}),
    ("/classify?min_score=0.01", {}),
    (HUGGING_FACE, {"function_to_apply": "sigmoid"}),
    (HUGGING_FACE, {"function_to_apply": "none"}),
]


def test_a_kept_answer_is_ranked_as_each_question_asks(live_server: LiveServer) -> None:
    text = base64.b64encode((IMAGES / "cat.jpg").read_bytes()).decode()

    def ask(server: LiveServer, path: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        ours = path != HUGGING_FACE
        body = {"image": text} if ours else {"inputs": text, "parameters": parameters}
        answer = httpx2.post(server.url + path, json=body).json()
        found: list[dict[str, Any]] = answer["predictions"] if ours else answer
        return found

    expected = [ask(live_server, *question) for question in QUESTIONS]
    # Each after itself and after another one, both ways.
    numbers = [number for number in range(len(QUESTIONS)) for _ in range(2)]
    order = [*numbers, *reversed(numbers)]
    with serve(cache_mib=1) as server:
        for number in order:
            for found, other in zip(ask(server, *QUESTIONS[number]), expected[number], strict=True):
                assert found == pytest.approx(other)
        assert outcomes(server)[2] == 1


def test_without_a_cache_nothing_is_kept(fake_engine: FakeEngine) -> None:
    with serve() as server:
        found = [post(server, "/embed", uniform(7)).headers["X-Cache"] for _ in range(2)]
    assert found == ["miss", "miss"]
    assert fake_engine.computed.count(7) == 2


def test_a_kept_answer_waits_for_no_batch_and_takes_no_place(fake_engine: FakeEngine) -> None:
    with serve(cache_mib=1) as server, ThreadPoolExecutor(4) as pool:
        post(server, "/classify", uniform(7))
        occupy(server, fake_engine, pool)
        held = server.batcher.admission.work
        assert post(server, "/classify", uniform(7)).headers["X-Cache"] == "hit"
        assert server.batcher.admission.work == held
        fake_engine.gate.set()


def test_requests_in_flight_share_one_computation_across_protocols(
    fake_engine: FakeEngine,
) -> None:
    with serve() as server, ThreadPoolExecutor(8) as pool:
        occupy(server, fake_engine, pool)
        first = pool.submit(post, server, "/embed", uniform(7))
        server.wait_for(lambda: server.batcher.waiting == 1)
        held = server.batcher.admission.work
        in_flight = server.metric("mobilenet_in_flight_requests")
        others = [
            pool.submit(httpx2.post, f"{server.url}{path}", json=document)
            for path, document in FEATURES
        ]
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == in_flight + 2)
        shared = server.server.lifecycle.service._flights._flights
        server.wait_for(lambda: max(one.callers for one in shared.values()) == 3)
        assert (server.batcher.waiting, server.batcher.admission.work) == (1, held)
        fake_engine.gate.set()
        answers = [call.result() for call in (first, *others)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [one.headers["X-Cache"] for one in answers] == ["miss", "shared", "shared"]
    assert fake_engine.computed.count(7) == 1


def test_who_shares_a_computation_gets_the_classes_of_his_own_question(
    fake_engine: FakeEngine,
) -> None:
    with serve() as server, ThreadPoolExecutor(8) as pool:
        occupy(server, fake_engine, pool)
        first = pool.submit(post, server, "/classify?top_k=1", uniform(7))
        server.wait_for(lambda: server.batcher.waiting == 1)
        other = pool.submit(post, server, "/classify?top_k=3", uniform(7))
        shared = server.server.lifecycle.service._flights._flights
        server.wait_for(lambda: max(one.callers for one in shared.values()) == 2)
        fake_engine.gate.set()
        answers = [call.result().json()["predictions"] for call in (first, other)]
    assert [len(answer) for answer in answers] == [1, 3]
    assert fake_engine.computed.count(7) == 1


@pytest.mark.parametrize("stays", [True, False])
def test_a_client_that_leaves_takes_the_computation_along_only_if_nobody_else_waits(
    fake_engine: FakeEngine, *, stays: bool
) -> None:
    image = uniform(7)
    host_head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    with serve() as server, ThreadPoolExecutor(4) as pool:
        occupy(server, fake_engine, pool)
        host, port = server.url.removeprefix("http://").split(":")
        running = server.server.lifecycle.service._flights._flights
        with socket.create_connection((host, int(port))) as leaver:
            leaver.sendall(host_head + b"Content-Length: %d\r\n\r\n%s" % (len(image), image))
            server.wait_for(lambda: server.batcher.waiting == 1)
            if stays:
                other = pool.submit(post, server, "/classify", image)
                server.wait_for(lambda: any(one.callers == 2 for one in running.values()))
        closed = {"route": "/classify", "status": "client_closed"}
        server.wait_for(lambda: server.metric("mobilenet_requests_total", **closed) == 1)
        assert server.batcher.waiting == stays
        fake_engine.gate.set()
        if stays:
            assert other.result().json()["predictions"]
    assert fake_engine.computed.count(7) == stays


def test_an_image_that_comes_twice_in_a_request_is_computed_once(fake_engine: FakeEngine) -> None:
    files = [("file", uniform(value)) for value in (7, 8, 7)]
    with serve(cache_mib=1) as server:
        post(server, "/embed", uniform(8))
        answer = httpx2.post(f"{server.url}/embed/batch", files=files)
        assert "X-Cache" not in answer.headers
        assert [one["embedding"][0] for one in answer.json()["results"]] == [7, 8, 7]
        assert outcomes(server) == (1, 1, 2)
    assert sorted(value for value in fake_engine.computed if value in {7, 8}) == [7, 8]


def test_a_real_answer_is_the_same_when_it_is_kept(cat: bytes) -> None:
    with serve(cache_mib=1) as server:
        answers = [post(server, "/classify?top_k=1001", cat) for _ in range(2)]
        assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
        assert json.dumps(answers[0].json()["predictions"]) == json.dumps(
            answers[1].json()["predictions"]
        )
