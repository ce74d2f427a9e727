"""The OpenAI API, asked by its own client."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from pydantic_core import to_json

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name


def connect(server: LiveServer, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0, **options)


def as_uri(image: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


@pytest.fixture(scope="module")
def api(live_server: LiveServer) -> Iterator[openai.OpenAI]:
    with connect(live_server) as api:
        yield api


@pytest.fixture
def embedding(client: httpx2.Client, cat: bytes) -> list[float]:
    """The cat's, as the native route gives it."""
    answer = client.post("/embed?normalize=true", files={"file": cat}).json()
    vector: list[float] = answer["embedding"]
    return vector


def test_one_image_is_the_native_embedding_of_unit_length(
    api: openai.OpenAI, cat: bytes, embedding: list[float]
) -> None:
    answer = api.embeddings.create(model=NAME, input=as_uri(cat))
    assert (answer.object, answer.model) == ("list", NAME)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (0, 0)
    (item,) = answer.data
    assert (item.object, item.index, len(item.embedding)) == ("embedding", 0, 1024)
    assert item.embedding == pytest.approx(embedding, abs=1e-6)
    assert np.linalg.norm(item.embedding) == pytest.approx(1, abs=1e-6)


def test_a_list_is_answered_in_its_order(
    api: openai.OpenAI, cat: bytes, coffee: bytes, embedding: list[float]
) -> None:
    answer = api.embeddings.create(
        model=NAME, input=[as_uri(coffee), as_uri(cat)], dimensions=1024, user="somebody"
    )
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.data[1].embedding == pytest.approx(embedding, abs=1e-5)
    assert np.dot(answer.data[0].embedding, embedding) < 0.9


def test_both_encodings_carry_the_same_numbers(api: openai.OpenAI, cat: bytes) -> None:
    numbers = api.embeddings.create(model=NAME, input=as_uri(cat), encoding_format="float")
    packed = api.embeddings.create(model=NAME, input=as_uri(cat), encoding_format="base64")
    text: Any = packed.data[0].embedding
    assert isinstance(text, str)
    unpacked = np.frombuffer(base64.b64decode(text), "<f4")
    assert unpacked == pytest.approx(np.array(numbers.data[0].embedding), abs=1e-6)


def test_what_else_the_client_sends_is_ignored(
    live_server: LiveServer, client: httpx2.Client, cat: bytes, embedding: list[float]
) -> None:
    with connect(live_server, organization="org", project="project") as api:
        answer = api.embeddings.create(model=NAME, input=as_uri(cat), extra_body={"truncate": True})
    assert answer.data[0].embedding == pytest.approx(embedding, abs=1e-6)
    nulls = {"encoding_format": None, "dimensions": None, "user": None}
    document = {"model": NAME, "input": as_uri(cat), **nulls}
    item = client.post("/v1/embeddings", json=document).json()["data"][0]
    assert item["embedding"] == pytest.approx(embedding, abs=1e-6)


def test_an_address_without_v1_is_not_found(live_server: LiveServer, cat: bytes) -> None:
    options: dict[str, Any] = {"api_key": "-", "max_retries": 0}
    with (
        openai.OpenAI(base_url=live_server.url, **options) as api,
        pytest.raises(openai.NotFoundError),
    ):
        api.embeddings.create(model=NAME, input=as_uri(cat))
    with openai.OpenAI(base_url=f"{live_server.url}/v1/", **options) as api:
        assert api.embeddings.create(model=NAME, input=as_uri(cat)).data


@pytest.mark.anyio
async def test_the_async_client_has_the_same_answers(
    live_server: LiveServer, cat: bytes, embedding: list[float]
) -> None:
    url = f"{live_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as api:
        answer = await api.embeddings.create(model=NAME, input=as_uri(cat))
        assert answer.data[0].embedding == pytest.approx(embedding, abs=1e-6)
        assert [model.id async for model in api.models.list()] == [NAME]
        with pytest.raises(openai.NotFoundError):
            await api.models.retrieve("gpt-5")


def test_models_are_listed_and_retrieved(api: openai.OpenAI) -> None:
    (listed,) = api.models.list()
    retrieved = api.models.retrieve(NAME)
    assert listed == retrieved
    assert (listed.id, listed.object, listed.owned_by) == (NAME, "model", "mobilenet-serve")
    assert listed.created > 1_700_000_000


@pytest.mark.parametrize(
    ("given", "expected", "sentence"),
    [
        ({"input": "a tabby cat"}, ("invalid_parameter", "input"), "data: URI"),
        ({"input": []}, ("invalid_parameter", "input"), "data: URI"),
        ({"input": [1, 2]}, ("invalid_parameter", "input"), "data: URI"),
        ({"input": "HTTP://localhost/cat.jpg"}, ("url_input_disabled", None), "not fetched"),
        ({"input": ["data:,x", "http://a"]}, ("invalid_parameter", None), "input[0]: A data:"),
        ({"input": as_uri(b"")}, ("empty_file", None), "no bytes"),
        ({"input": as_uri(b"<svg/>")}, ("unsupported_image_format", None), "not a JPEG"),
        ({"input": as_uri(b"\xff\xd8\xff")}, ("invalid_image", None), "cannot be read"),
        ({"input": ["data:;base64,"] * 65}, ("too_many_files", None), "at most 64"),
        ({"dimensions": 512}, ("invalid_parameter", "dimensions"), "1024"),
        ({"encoding_format": "hex"}, ("invalid_parameter", "encoding_format"), "'base64'"),
    ],
    ids=[
        "text", "nothing", "tokens", "link", "plain uri", "empty", "svg", "damaged", "many",
        "dimensions", "encoding",
    ],
)  # fmt: skip
def test_what_cannot_be_embedded_is_a_bad_request(
    api: openai.OpenAI,
    cat: bytes,
    given: dict[str, Any],
    expected: tuple[str, str | None],
    sentence: str,
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        api.embeddings.create(**{"model": NAME, "input": as_uri(cat), **given})
    error = refused.value
    assert (error.code, error.param) == expected
    assert error.type == "invalid_request_error"
    assert sentence in error.message
    assert error.request_id


def test_one_bad_image_of_several_is_named_by_its_index(api: openai.OpenAI, cat: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match=r"input\[1\]: The image ends") as refused:
        api.embeddings.create(model=NAME, input=[as_uri(cat), as_uri(cat[:9000]), as_uri(cat)])
    assert refused.value.code == "image_truncated"


def test_a_model_that_is_not_served_is_not_found(api: openai.OpenAI, cat: bytes) -> None:
    for ask in (
        lambda: api.embeddings.create(model="gpt-5", input=as_uri(cat)),
        lambda: api.models.retrieve("a/b"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            ask()
        assert refused.value.code == "model_not_found"


def test_a_failure_of_the_service_is_an_internal_server_error(
    api: openai.OpenAI, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("model.images.decoder.Decoder.open", run_out)
    with pytest.raises(openai.InternalServerError) as refused:
        api.embeddings.create(model=NAME, input=as_uri(cat))
    assert (refused.value.status_code, refused.value.type) == (503, "server_error")
    assert refused.value.code == "out_of_memory"


def test_a_full_queue_is_a_rate_limit_and_the_client_comes_back_when_it_is_told(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.streams = 1
    naps: list[float] = []
    with serve(queue_ms=0.001, max_batch_size=1) as server, ThreadPoolExecutor(1) as pool:
        fake_engine.hold()
        while fake_engine.entered.acquire(blocking=False):
            pass
        first = pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(1)})
        fake_engine.entered.acquire()

        def nap(seconds: float) -> None:
            naps.append(seconds)
            fake_engine.gate.set()
            first.result()

        with connect(server) as api:
            with pytest.raises(openai.RateLimitError) as refused:
                api.embeddings.create(model=NAME, input=as_uri(uniform(2)))
            told = int(refused.value.response.headers["Retry-After"])
            assert (refused.value.code, refused.value.type) == ("overloaded", "rate_limit_error")
            monkeypatch.setattr("openai._base_client.time.sleep", nap)
            patient = api.with_options(max_retries=1)
            answer = patient.embeddings.create(model=NAME, input=as_uri(uniform(2)))
    assert naps == [told]
    assert len(answer.data) == 1


def test_a_client_that_waits_no_longer_has_a_timeout_and_its_image_is_not_computed(
    fake_engine: FakeEngine,
) -> None:
    fake_engine.streams = 1
    with serve(max_batch_size=1) as server, ThreadPoolExecutor(1) as pool:
        fake_engine.hold()
        while fake_engine.entered.acquire(blocking=False):
            pass
        pool.submit(httpx2.post, f"{server.url}/classify", files={"file": uniform(1)})
        fake_engine.entered.acquire()
        with connect(server, timeout=0.05) as api, pytest.raises(openai.APITimeoutError):
            api.embeddings.create(model=NAME, input=as_uri(uniform(2)))
        server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 1)
        fake_engine.gate.set()
    assert 2 not in fake_engine.computed


def test_answers_of_many_images_are_written_off_the_event_loop(
    api: openai.OpenAI, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def watched(document: object) -> bytes:
        threads.append(threading.current_thread().name)
        return to_json(document)

    monkeypatch.setattr("app.api.routes.openai.to_json", watched)
    api.embeddings.create(model=NAME, input=[as_uri(cat)] * 17, encoding_format="float")
    assert threads
    assert threads[0].startswith("asyncio_")
