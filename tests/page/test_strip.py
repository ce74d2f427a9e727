"""The strip: the service's last minute, seen from a browser."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.conftest import IMAGES, LiveServer
from tests.observability.load import repeat
from tests.optional import playwright
from tests.page.conftest import OpenPage

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]

CALLERS = 16
_BAR = re.compile("^M")


@contextmanager
def load(url: str, callers: int = CALLERS) -> Iterator[None]:
    """Let callers ask, each as fast as it is answered; no two send the same bytes."""
    photos = [path.read_bytes() for path in sorted(IMAGES.glob("*.jpg"))]

    def call(number: int) -> None:
        photo = photos[number % len(photos)] + os.urandom(8)
        client.post("/classify", files={"file": photo})

    with httpx2.Client(base_url=url, timeout=60) as client, repeat(call, callers):
        yield


def test_the_strip_moves_under_load(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.wait_live()
    page = visit.page
    expect(page.locator("#rate")).to_have_text("0")
    with load(server.url):
        expect(page.locator("#rate")).not_to_have_text("0")
        for chart in ("rate", "waiting"):
            expect(page.locator(f"#{chart}-chart .column")).to_have_attribute("d", _BAR)
        expect(page.locator("#size-chart .most")).to_have_attribute("d", _BAR)
        visit.wait_for("parseFloat(document.getElementById('size').value) > 1")
    expect(page.locator("#rate")).to_have_text("0", timeout=20_000)


def test_the_figures_are_those_of_the_snapshots(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.wait_live()
    page = visit.page
    still = {"seconds": 1, "requests": 0, "refused": 0, "images": 0, "batches": {}, "ready": True}
    now = time.time() + 100  # what the service itself sent is older than a minute
    snapshots = [
        {**still, "at": now, "requests": 50, "refused": 2, "waiting": 9},
        {**still, "at": now + 1, "requests": 70, "refused": 3, "waiting": 7}
        | {"images": 24, "batches": {"1": 2, "8": 4}},
    ]
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in snapshots)
    page.route("**/live", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.evaluate("dispatchEvent(new Event('key'))")  # makes it connect anew
    for name, figure in {"rate": "60", "size": "4.0", "waiting": "7", "refused": "5"}.items():
        expect(page.locator(f"#{name}")).to_have_text(figure)
    expect(page.locator("#waiting-chart .column")).to_have_attribute(
        "d", re.compile(r"^M58 20v-20h\.75v20zM59 20v-15\.5\d*h\.75v15\.5\d*z$")
    )


def test_a_refusal_to_watch_shows_its_sentence(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url, expected={429})
    visit.wait_live()
    page = visit.page
    refusal = {"detail": "100 viewers watch already."}
    headers = {"Retry-After": "30"}
    page.route("**/live", lambda route: route.fulfill(status=429, headers=headers, json=refusal))
    page.clock.install()
    page.evaluate("window.said = []")
    page.evaluate(
        """() => new MutationObserver(() => said.push(document.getElementById("link").innerText))
          .observe(document.getElementById("link"), { childList: true, subtree: true })"""
    )
    page.evaluate("dispatchEvent(new Event('key'))")
    visit.wait_for("said.includes('100 viewers watch already.')")


def test_refusals_are_counted(open_page: OpenPage, server: LiveServer) -> None:
    visit = open_page(server.url)
    visit.wait_live()
    expect(visit.page.locator("#refused")).to_have_text("0")
    metrics = server.server.lifecycle.metrics
    metrics.requests.labels("/classify", "429").inc(7)
    expect(visit.page.locator("#refused")).to_have_text("7")
    expect(visit.page.locator("#refused")).to_have_class("alarm")


def test_a_stream_that_ends_is_opened_again(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.wait_live()
    page = visit.page
    page.route("**/live", lambda route: route.abort())
    page.evaluate("dispatchEvent(new Event('key'))")  # makes it connect anew
    expect(page.locator("#link")).to_have_text("not connected; trying again")
    page.unroute("**/live")
    visit.wait_live()
    visit.complaints.clear()  # the browser tells of the abort


def test_what_is_served_is_told_once_the_service_is_ready(
    server: LiveServer, open_page: OpenPage
) -> None:
    visit = open_page(server.url, expected={503})
    page = visit.page
    page.route("**/info", lambda route: route.fulfill(status=503, json={"detail": "Loading."}))
    page.reload()
    visit.wait_live()
    expect(page.locator("#served")).to_have_text("mobilenet-serve")
    page.unroute("**/info")
    page.evaluate("dispatchEvent(new Event('ready'))")
    expect(page.locator("#served")).to_contain_text("onnx on cpu")


def test_a_tab_that_nobody_sees_does_not_watch(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.wait_live()
    live = server.server.parts.live
    before = live.viewers
    assert before
    visit.page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    server.wait_for(lambda: live.viewers == before - 1)
