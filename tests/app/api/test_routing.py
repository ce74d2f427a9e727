"""A route says where it is declared what the middleware does with its requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from fastapi import APIRouter, Request
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.api import application
from app.api.documents.declarations import declare_errors
from app.api.problems import ErrorFormat, ErrorSentence, create_sentence
from app.api.routing import Body, declare
from app.errors import InvalidImageError
from app.telemetry.traces import Traces, create_provider
from tests.conftest import LiveServer, serve

KEY = {"Authorization": "Bearer my-key"}

# What the file of a new protocol would say
ERRORS = ErrorFormat("added", ErrorSentence, create_sentence, "added", statuses={422: 400})
router = APIRouter()


@router.post("/added/image", responses=declare_errors(ERRORS, InvalidImageError))
@declare(body=Body.ONE_IMAGE)
async def take_image(request: Request) -> int:
    """Count the bytes of an image; none is an error."""
    body = await request.body()
    if not body:
        raise InvalidImageError
    return len(body)


@router.get("/added/health")
@declare(public=True, probe=True)
async def health() -> str:
    """Answer."""
    return "well"


@router.get("/added/plain")
async def plain() -> str:
    """Answer."""
    return "plain"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def server(
    exporter: InMemorySpanExporter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    keys: Path = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("my-key")
    provider = create_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    added = SimpleNamespace(router=router, ERRORS=ERRORS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "_PROTOCOLS", (*application._PROTOCOLS, added))
        patch.setattr(application, "create_traces", lambda: Traces(provider))
        with serve(api_keys_file=keys, max_body_mib=0.01) as server:
            yield server


def test_its_body_is_limited(server: LiveServer) -> None:
    fits = httpx2.post(f"{server.url}/added/image", content=bytes(10_000), headers=KEY)
    assert (fits.status_code, fits.json()) == (200, 10_000)
    large = httpx2.post(f"{server.url}/added/image", content=bytes(11_000), headers=KEY)
    assert large.status_code == 413
    labels = {"route": "/added/image", "status": "413"}
    server.wait_for(lambda: server.metric("mobilenet_requests_total", **labels) == 1)


def test_a_full_service_refuses_it_by_its_body(server: LiveServer) -> None:
    with server.batcher.admission.reserve(1e6):
        assert httpx2.post(f"{server.url}/added/image", headers=KEY).status_code == 429
        assert httpx2.get(f"{server.url}/added/plain", headers=KEY).status_code == 200


def test_it_needs_a_key_unless_it_is_public(server: LiveServer) -> None:
    assert httpx2.post(f"{server.url}/added/image").status_code == 401
    assert httpx2.get(f"{server.url}/added/plain").status_code == 401
    assert httpx2.get(f"{server.url}/added/health").status_code == 200


def test_it_is_traced_unless_it_is_a_probe(
    server: LiveServer, exporter: InMemorySpanExporter
) -> None:
    exporter.clear()
    httpx2.get(f"{server.url}/added/health")
    httpx2.get(f"{server.url}/added/plain", headers=KEY)
    server.wait_for(lambda: server.metric("mobilenet_in_flight_requests") == 0)
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /added/plain"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/added/image", KEY, 400),
        ("POST", "/added/image", {}, 401),
        ("DELETE", "/added/image", KEY, 405),
        ("GET", "/added/nothing", KEY, 404),
        ("GET", "/added", KEY, 404),
        ("GET", "/added/" + "x" * 4096, KEY, 414),
    ],
    ids=[
        "by the route",
        "by a middleware",
        "another method",
        "no route",
        "prefix",
        "by the server",
    ],
)
def test_its_errors_have_its_protocols_format(
    server: LiveServer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = httpx2.request(method, f"{server.url}{path}", headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)


def test_another_paths_errors_are_native(server: LiveServer) -> None:
    answer = httpx2.get(f"{server.url}/addedx", headers=KEY)
    assert answer.headers["Content-Type"] == "application/problem+json"
