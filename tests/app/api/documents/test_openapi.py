"""What /docs and /openapi.json say, held against what the service does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.application import create_app
from app.api.parts import get_parts
from app.errors import AppError, every_error
from app.settings import Settings
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer
from tests.corpus.table import EXCHANGES, ROWS

NAME = DEFAULT_DIRECTORY.name
APP = create_app(Settings())
ROUTES = get_parts(APP).routes
DOCUMENT: dict[str, Any] = APP.openapi()
OPERATIONS = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
]
POSTS = [
    (path, media)
    for method, path in OPERATIONS
    if method == "post"
    for media in DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
]
FILES = [
    (path, media) for path, media in POSTS if "json" not in media and not path.startswith("/v2/")
]
"""Tensors in bytes are no file; tests of that protocol send them."""
NEVER_DECLARED = {"not_found", "method_not_allowed", "unauthorized"}
"""Of requests to no route; and of a service that has keys."""


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def resolve(reference: dict[str, str]) -> dict[str, Any]:
    _, _, kind, name = reference["$ref"].split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def fill(method: str, path: str) -> str:
    """The path with the examples of its parameters."""
    for parameter in operation(method, path).get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    return path


def declared(method: str, path: str) -> dict[str, int]:
    """The status of each error that an operation declares, by its code."""
    return {
        code: int(status)
        for status, response in operation(method, path)["responses"].items()
        for content in response.get("content", {}).values()
        for code in content.get("examples", {})
    }


def expected(error: type[AppError], path: str) -> int:
    return ROUTES.find_format(path).status(error)


@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if one[0] == "get"])
def test_a_route_without_a_body_answers_as_it_is(
    client: httpx2.Client, method: str, path: str
) -> None:
    assert client.request(method, fill(method, path)).is_success


@pytest.mark.parametrize("path", sorted({path for path, _ in POSTS}))
def test_the_body_that_is_filled_in_is_answered(client: httpx2.Client, path: str) -> None:
    content = operation("post", path)["requestBody"]["content"]
    assert next(iter(content)) == "application/json", "what is tried first has an example"
    answer = client.post(fill("post", path), json=content["application/json"]["example"])
    assert answer.status_code == 200
    assert "espresso" in answer.text or "embed" in path
    assert '"error"' not in answer.text


@pytest.mark.parametrize("path", ["/classify", "/models/{model}", "/v2/models/{model}/infer"])
def test_the_answer_that_is_shown_is_the_answer_to_what_is_filled_in(
    client: httpx2.Client, path: str
) -> None:
    body = operation("post", path)["requestBody"]["content"]["application/json"]["example"]
    shown = operation("post", path)["responses"]["200"]["content"]["application/json"]["example"]
    assert fix(client.post(fill("post", path), json=body).json()) == fix(shown)


def fix(node: Any) -> Any:
    """The same without what no two answers have in common."""
    if isinstance(node, dict):
        varying = {"request_id", "timing_ms", "batch_size"}
        return {name: name if name in varying else fix(value) for name, value in node.items()}
    if isinstance(node, list):
        return [fix(value) for value in node]
    if isinstance(node, str) and node[:2] == "0.":
        return (pytest.approx(float(node[:8]), abs=1e-3), node[8:])
    return pytest.approx(node, abs=1e-3) if isinstance(node, float) else node


@pytest.mark.parametrize(("path", "media"), FILES)
def test_a_file_can_be_sent_in_every_other_way_that_is_declared(
    client: httpx2.Client, cat: bytes, path: str, media: str
) -> None:
    """As a browser sends it: with the very media type that the document has."""
    target = fill("post", path)
    if media == "multipart/form-data":
        answer = client.post(target, files={"file": ("cat.jpg", cat)})
    else:
        answer = client.post(target, content=cat, headers={"Content-Type": media})
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_declared_error_is_one_of_ours_with_its_status_and_sentence(
    method: str, path: str
) -> None:
    ours = {error.code: error for error in every_error()}
    error_format = ROUTES.find_format(path)
    for status, response in operation(method, path)["responses"].items():
        for media_type, content in response.get("content", {}).items():
            for code, reference in content.get("examples", {}).items():
                assert media_type == error_format.media_type
                assert int(status) == expected(ours[code], path)
                value = resolve(reference)["value"]
                assert value == error_format.describe(ours[code](), value.get("request_id", ""))
                assert set(value) == set(resolve(content["schema"])["properties"])


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_status_of_an_error_has_an_example(method: str, path: str) -> None:
    for status, response in operation(method, path)["responses"].items():
        if status.isdigit() and int(status) >= 400:
            for content in response["content"].values():
                assert content.get("examples") or content.get("example"), status


@pytest.mark.parametrize("path", ["/classify", "/embed", "/classify/batch", "/embed/batch"])
def test_every_error_of_the_corpus_is_declared(path: str) -> None:
    answers = {(row.code, row.status) for row in ROWS}
    answers |= {(code, status) for one in EXCHANGES for status, code in one.answers}
    told = {(code, status) for code, status in answers if code and code not in NEVER_DECLARED}
    assert len(told) > 5
    assert told <= set(declared("post", path).items())


@pytest.mark.parametrize("path", ["/models/{model}", "/v1/embeddings", "/v2/models/{model}/infer"])
def test_every_error_of_a_bad_image_is_declared_by_every_protocol(path: str) -> None:
    ours = {error.code: error for error in every_error()}
    told = {(row.code, expected(ours[row.code], path)) for row in ROWS if row.code}
    assert told <= set(declared("post", path).items())


def test_every_error_is_declared_by_some_route() -> None:
    told = {code for one in OPERATIONS for code in declared(*one)}
    assert told | NEVER_DECLARED == {error.code for error in every_error()}


def test_examples_ask_for_a_model_that_is_served() -> None:
    app = create_app(Settings(models=(f"pets={DEFAULT_DIRECTORY}",)))
    paths = app.openapi()["paths"]
    body = paths["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"]["model"] == "pets"
    (model,) = paths["/v2/models/{model}"]["get"]["parameters"]
    assert model["example"] == "pets"


def test_a_service_with_keys_declares_401_in_each_protocols_own_shape(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("my-key\n")
    app = create_app(Settings(api_keys_file=keys))
    assert app.openapi_schema is None, "nothing is built before it is asked for"
    document = app.openapi()
    for path in ("/classify", "/models/{model}", "/v1/embeddings", "/v2/models/{model}/infer"):
        error_format = ROUTES.find_format(path)
        (content,) = document["paths"][path]["post"]["responses"]["401"]["content"].items()
        assert content[0] == error_format.media_type
        reference = content[1]["examples"]["unauthorized"]["$ref"]
        assert reference.rpartition("/")[2] in document["components"]["examples"]


def test_every_protocol_has_a_schema_of_its_errors() -> None:
    names = set(DOCUMENT["components"]["schemas"])
    assert {f"{error_format.name}.error" for error_format in ROUTES.formats} <= names


def test_the_page_and_its_document_come_from_this_server_only(live_server: LiveServer) -> None:
    page = httpx2.get(f"{live_server.url}/docs").text
    assert "http" not in page.replace(live_server.url, "")
