"""Pages of other origins: nothing by default, and of a listed origin all that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from app.inference.service import Service
from app.settings import InvalidSettingError, load_settings
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine
from tests.image_files import uniform

ORIGIN, STRANGER = "https://page.example", "https://page.example.org"
ALLOWED = "access-control-allow-origin"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-request-timeout-ms",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("key")
    origins = f"http://localhost:3000, {ORIGIN}"
    with serve(cors_origins=origins, api_keys_file=keys) as server:
        yield server


def ask(server: LiveServer, origin: str = ORIGIN, key: str = "key") -> httpx2.Response:
    headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
    return httpx2.post(f"{server.url}/classify", files={"file": uniform(1)}, headers=headers)


def test_by_default_no_other_origin_is_let_in(client: httpx2.Client) -> None:
    answer = client.get("/info", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/classify", headers=PREFLIGHT).status_code == 405


def test_a_page_of_a_listed_origin_reads_the_answer_and_its_headers(server: LiveServer) -> None:
    answer = ask(server)
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, ORIGIN)
    exposed = answer.headers["access-control-expose-headers"]
    for name in ("X-Request-ID", "X-Cache", "Server-Timing", "Retry-After"):
        assert name in exposed
    assert "Origin" in answer.headers["Vary"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_of_another_origin_reads_nothing(server: LiveServer) -> None:
    assert ALLOWED not in ask(server, STRANGER).headers
    headers = {**PREFLIGHT, "Origin": STRANGER}
    refused = httpx2.options(f"{server.url}/classify", headers=headers)
    assert (refused.status_code, ALLOWED in refused.headers) == (400, False)


def test_a_preflight_needs_no_key_and_is_answered_as_any_request(server: LiveServer) -> None:
    answer = httpx2.options(f"{server.url}/classify", headers=PREFLIGHT)
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, ORIGIN)
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["X-Request-ID"]


def test_a_page_may_send_whatever_headers_its_client_does(server: LiveServer) -> None:
    sent = "authorization,content-type,x-stainless-os,openai-organization,x-wait-for-model"
    for path in ("/v1/embeddings", "/models/x", "/v2/models/x/infer"):
        headers = {**PREFLIGHT, "Access-Control-Request-Headers": sent}
        answer = httpx2.options(f"{server.url}{path}", headers=headers)
        assert (answer.status_code, answer.headers[ALLOWED]) == (200, ORIGIN)
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert set(sent.split(",")) <= {name.strip() for name in allowed.split(",")}


def test_errors_can_be_read_too(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError

    unauthorized = ask(server, key="none")
    monkeypatch.setattr(Service, "classify", fail)
    failed = ask(server)
    missing = httpx2.get(
        f"{server.url}/x", headers={"Origin": ORIGIN, "Authorization": "Bearer key"}
    )
    assert [one.status_code for one in (unauthorized, failed, missing)] == [401, 500, 404]
    assert [one.headers.get(ALLOWED) for one in (unauthorized, failed, missing)] == [ORIGIN] * 3


def test_a_full_queue_answers_preflights_and_refuses_so_that_the_page_can_tell(
    fake_engine: FakeEngine,
) -> None:
    fake_engine.streams = 1
    options: dict[str, Any] = {"queue_ms": 0.001, "max_batch_size": 1, "cors_origins": ORIGIN}
    with serve(**options) as server, ThreadPoolExecutor(1) as pool:
        fake_engine.hold()
        while fake_engine.entered.acquire(blocking=False):
            pass
        first = pool.submit(ask, server)
        fake_engine.entered.acquire()
        assert httpx2.options(f"{server.url}/classify", headers=PREFLIGHT).status_code == 200
        refused, other = ask(server), ask(server, STRANGER)
        assert (refused.status_code, refused.headers[ALLOWED]) == (429, ORIGIN)
        assert refused.headers["Retry-After"]
        assert (other.status_code, ALLOWED in other.headers) == (429, False)
        fake_engine.gate.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize(
    "value",
    ["*", "null", "page.example", "https://page.example/", "https://Page.example", "ftp://x",
     f"{ORIGIN},*", "https://a b", "https://*.example"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_at_start(value: str) -> None:
    with pytest.raises(InvalidSettingError, match=r"MOBILENET_CORS_ORIGINS.* would let every page"):
        load_settings(cors_origins=value)


def test_origins_may_have_ports_and_numbers() -> None:
    given = "http://127.0.0.1:8080, http://[::1]:80,https://a-b.example"
    assert len(load_settings(cors_origins=given).cors_origins) == 3
    assert load_settings(cors_origins="").cors_origins == ()
