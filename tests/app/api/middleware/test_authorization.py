"""API keys: who is asked for one, and what they are told without."""

from __future__ import annotations

import base64
import hmac
import pickle
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from app.api.middleware.authorization import ApiKeys, load_keys
from app.errors import UnauthorizedError
from app.settings import InvalidSettingError
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.app.server.test_uvicorn_server import fails_to_start, start
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

NAME = DEFAULT_DIRECTORY.name
KEY, SECOND, WRONG = "first.key-1", "c2Vjb25k+/==", "nobody"
FILE = f"# keys of two clients\n\n{KEY}\r\n  {SECOND}\n"
PUBLIC = [
    *("/livez", "/readyz", "/healthz", "/health", "/v2/health/live", "/v2/health/ready"),
    *("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"),
    *("/", "/static/main.js"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[LiveServer]:
    with serve(api_keys_file=file) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def classify(server: LiveServer, headers: Any) -> httpx2.Response:
    return httpx2.post(f"{server.url}/classify", files={"file": uniform(1)}, headers=headers)


@pytest.mark.parametrize("key", [KEY, SECOND])
def test_a_key_of_the_file_is_let_in(server: LiveServer, key: str) -> None:
    assert classify(server, bearer(key)).status_code == 200
    assert classify(server, {"Authorization": f"bEARER  {key}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(WRONG),
        {"Authorization": "Bearer"},
        bearer(KEY[:-1]),
        bearer(f"{KEY} {SECOND}"),
        bearer("# keys of two clients"),
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"X-Api-Key": KEY},
        [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    ],
    ids=str,
)
def test_anything_else_is_401_and_says_how_to_ask(server: LiveServer, headers: Any) -> None:
    answer = classify(server, headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert "X-Cache" not in answer.headers


@pytest.mark.parametrize("path", PUBLIC)
def test_probes_and_documentation_need_no_key(server: LiveServer, path: str) -> None:
    assert httpx2.get(f"{server.url}{path}").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/info", "/labels", "/metrics", "/v1/models", "/v2", f"/v2/models/{NAME}/ready", "/nothing",
     "/livez/", "/docsx", "//docs", "/v2/healthy"],
)  # fmt: skip
def test_all_other_paths_need_one(server: LiveServer, path: str) -> None:
    assert httpx2.get(f"{server.url}{path}").status_code == 401
    assert httpx2.get(f"{server.url}{path}", headers=bearer(KEY)).status_code != 401


def test_whoever_watches_needs_one(server: LiveServer) -> None:
    assert httpx2.get(f"{server.url}/live").status_code == 401
    with httpx2.stream("GET", f"{server.url}/live", headers=bearer(KEY)) as answer:
        assert answer.status_code == 200


def test_every_protocol_is_told_in_its_own_shape(server: LiveServer) -> None:
    url = server.url
    assert httpx2.post(f"{url}/models/{NAME}").json() == {"error": UnauthorizedError.detail}
    assert httpx2.post(f"{url}/v2/models/{NAME}/infer").json() == {
        "error": UnauthorizedError.detail
    }
    error = httpx2.post(f"{url}/v1/embeddings").json()["error"]
    assert (error["code"], error["type"]) == ("unauthorized", "invalid_request_error")
    assert httpx2.post(f"{url}/embed").headers["Content-Type"] == "application/problem+json"


def test_the_clients_of_openai_and_hugging_face_send_keys(server: LiveServer, cat: bytes) -> None:
    uri = f"data:;base64,{base64.b64encode(cat).decode()}"
    for key in (KEY, WRONG):
        api = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        hub = InferenceClient(model=f"{server.url}/models/{NAME}", token=key)
        if key == KEY:
            assert api.embeddings.create(model=NAME, input=uri).data
            assert hub.image_classification(cat)[0].label == "tabby, tabby cat"
        else:
            with pytest.raises(openai.AuthenticationError):
                api.embeddings.create(model=NAME, input=uri)
            with pytest.raises(HfHubHTTPError, match="401"):
                hub.image_classification(cat)


def test_it_is_told_before_the_body_comes_and_whatever_else_is_wrong(server: LiveServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    heads = ("Content-Length: 1000", "Content-Length: 99999999999", "Transfer-Encoding: chunked")
    for head in heads:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            request = f"POST /classify?a=1&a=2 HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"
            connection.sendall(request.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_who_has_no_key_learns_nothing_of_the_load(fake_engine: FakeEngine, file: Path) -> None:
    fake_engine.streams = 1
    options: dict[str, Any] = {"queue_ms": 0.001, "max_batch_size": 1, "api_keys_file": file}
    with serve(**options) as server, ThreadPoolExecutor(1) as pool:
        fake_engine.hold()
        while fake_engine.entered.acquire(blocking=False):
            pass
        first = pool.submit(classify, server, bearer(KEY))
        fake_engine.entered.acquire()
        assert classify(server, bearer(KEY)).status_code == 429
        assert classify(server, bearer(WRONG)).status_code == 401
        fake_engine.gate.set()
        assert first.result().status_code == 200
        assert server.metric("mobilenet_refusals_total", code="unauthorized") == 1


def test_the_openapi_document_says_where_a_key_is_needed(server: LiveServer) -> None:
    document = httpx2.get(f"{server.url}/openapi.json").json()
    scheme = {"type": "http", "scheme": "bearer"}
    assert document["components"]["securitySchemes"] == {"key": scheme}
    open_paths = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "security" not in operation
    }
    assert open_paths == {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
    classify = document["paths"]["/classify"]["post"]
    assert classify["security"] == [{"key": []}]
    assert "application/problem+json" in classify["responses"]["401"]["content"]


def test_without_keys_nobody_is_asked_and_a_key_does_no_harm(client: httpx2.Client) -> None:
    assert client.get("/info", headers=bearer(WRONG)).status_code == 200
    assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})


def test_a_key_is_compared_with_all_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    keys = ApiKeys([b"one", b"another"])
    keys.check([(b"authorization", b"Bearer one")])
    assert compared == [(32, 32)] * 2


def test_no_key_is_held_in_memory() -> None:
    held = pickle.dumps(ApiKeys([b"first.key-1"]))
    assert b"first.key-1" not in held


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no key"),
        (b"# none\n\n", "has no key"),
        (b"good\nsecret word\n", "line 2 is no key"),
        ("sécret\n".encode(), "line 1 is no key"),
        (b"\xef\xbb\xbfsecret\n", "line 1 is no key"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_keys_is_refused_in_one_line_that_tells_none_of_it(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSettingError, match=why) as refused:
        load_keys(path)
    text = str(refused.value)
    assert "MOBILENET_API_KEYS_FILE" in text
    assert "\n" not in text
    assert "cret" not in text


@pytest.mark.thorough
def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    code, output = fails_to_start(MOBILENET_API_KEYS_FILE=str(tmp_path))
    assert code == 2
    assert output.count("\n") == 1
    assert "MOBILENET_API_KEYS_FILE" in output


@pytest.mark.thorough
def test_no_key_is_ever_logged(file: Path) -> None:
    with start("--api-keys-file", str(file), "--log-level", "debug") as process:
        url = process.ready()
        for key in (KEY, WRONG):
            httpx2.get(f"{url}/info", headers=bearer(key))
        process.process.send_signal(signal.SIGTERM)
        assert process.end() == 0
    log = "".join(process.lines)
    assert '"status": 401' in log
    assert not any(key in log for key in (KEY, SECOND, WRONG))
