"""A real browser, Debian's Chromium, and a real server for it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests import optional
from tests.conftest import LiveServer, serve
from tests.page.visit import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
KEY = "the.right-key"
WIDE: Any = {"width": 1280, "height": 800}
NARROW: Any = {"width": 320, "height": 640}


class OpenPage(Protocol):
    """Opens the page; the arguments beyond are a Playwright context's."""

    def __call__(self, url: str, expected: Collection[int] = (), **options: Any) -> Visit: ...


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with optional.playwright.sync_playwright() as playwright:
        # Root has no sandbox, and a container's shared memory is small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    with serve(max_batch_size=8) as server:
        yield server


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that asks for a key."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    with serve(api_keys_file=path) as server:
        yield server


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages; at the end, no browser may have complained, nor asked another server."""
    contexts = []
    visits: list[tuple[str, Visit]] = []

    def open_page(url: str, expected: Collection[int] = (), **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
        visit = Visit(context, url, expected)
        visits.append((url.partition("/#")[0], visit))
        return visit

    yield open_page
    complaints = [complaint for _, visit in visits for complaint in visit.complaints]
    elsewhere = [
        asked
        for url, visit in visits
        for asked in visit.asked
        if not asked.startswith((url, f"blob:{url}"))
    ]
    for context in contexts:
        context.close()
    assert complaints == []
    assert elsewhere == []


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path:
    folder = Path(request.config.getoption("--screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
