"""/docs as a person uses it: what is filled in is answered when the button is pressed."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.conftest import IMAGES, LiveServer
from tests.optional import playwright
from tests.page.conftest import OpenPage
from tests.page.visit import Visit

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]


@pytest.fixture
def document(server: LiveServer) -> dict[str, Any]:
    document: dict[str, Any] = httpx2.get(f"{server.url}/openapi.json").json()
    return document


def open_docs(server: LiveServer, open_page: OpenPage) -> Visit:
    visit = open_page(server.url)
    visit.page.goto(f"{server.url}/docs")
    return visit


def unfold(visit: Visit, operation: dict[str, Any]) -> playwright.Locator:
    (tag,) = operation["tags"]
    name = tag.replace(" ", "_")
    block = visit.page.locator(f"[id='operations-{name}-{operation['operationId']}']")
    block.locator(".opblock-summary-control").click()
    return block


def execute(block: playwright.Locator) -> None:
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response > .response-col_status")).to_have_text(
        "200"
    )


def test_every_route_answers_when_it_is_tried_as_it_is(
    server: LiveServer, open_page: OpenPage, document: dict[str, Any]
) -> None:
    visit = open_docs(server, open_page)
    tried = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            block = unfold(visit, operation)
            execute(block)
            block.locator(".opblock-summary-control").click()
            tried += 1
    assert tried > 10


@pytest.mark.parametrize("path", ["/classify", "/embed", "/classify/batch", "/embed/batch"])
def test_a_file_is_chosen_and_answered(
    server: LiveServer, open_page: OpenPage, document: dict[str, Any], path: str
) -> None:
    visit = open_docs(server, open_page)
    block = unfold(visit, document["paths"][path]["post"])
    block.get_by_label("Request content type").select_option("multipart/form-data")
    block.locator("input[type=file]").set_input_files(IMAGES / "cat.jpg")
    execute(block)
    said = block.locator(".live-responses-table .response > .response-col_description")
    expect(said).to_contain_text("tabby" if "classify" in path else "embedding")
    # Swagger UI falls back to what it has for a file, and says so.
    visit.complaints[:] = [one for one in visit.complaints if "JsonSchema_string_binary" not in one]
