"""Two pictures, and the cosine of their embeddings."""

from __future__ import annotations

import re

import httpx2
import numpy as np
import pytest

from tests.conftest import LiveServer
from tests.optional import playwright
from tests.page.conftest import OpenPage

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]


def embed(server: LiveServer, image: bytes) -> np.ndarray:
    answer = httpx2.post(f"{server.url}/embed?normalize=true", files={"file": image}).json()
    return np.asarray(answer["embedding"])


def test_two_pictures_are_compared_by_the_cosine_of_their_embeddings(
    server: LiveServer, open_page: OpenPage, cat: bytes, coffee: bytes
) -> None:
    visit = open_page(server.url)
    visit.page.get_by_role("tab", name="Compare").click()
    visit.drop({"cat.jpg": cat, "coffee.jpg": coffee})
    expect(visit.page.locator(".cosine b")).to_have_text(re.compile(r"[\d.]+"))
    cosine = float(visit.page.locator(".cosine b").inner_text())
    assert cosine == pytest.approx(embed(server, cat) @ embed(server, coffee), abs=0.001)
    lines = visit.page.locator("#compare-curl code").inner_text().splitlines()
    assert ["cat.jpg" in lines[0], "coffee.jpg" in lines[1]] == [True, True]
    assert all("/embed?normalize=true" in line for line in lines)


def test_a_picture_is_the_same_as_itself(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(f"{server.url}/#compare")
    for side in ("first", "second"):
        samples = visit.page.get_by_role("group", name=f"Samples for the {side} picture")
        samples.get_by_role("button", name="rocket").click()
    expect(visit.page.locator(".cosine b")).to_have_text("1.000")


def test_one_that_cannot_be_read_is_told_in_its_place(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(f"{server.url}/#compare", expected={415})
    visit.drop({"cat.jpg": cat})
    visit.drop({"notes.txt": b"no picture"})
    expect(visit.page.locator(".slot .sentence")).to_contain_text("is not a JPEG")
    expect(visit.page.locator(".cosine b")).not_to_have_text(re.compile(r"\d"))
    visit.drop({"cat.jpg": cat})
    expect(visit.page.locator(".cosine b")).to_have_text("1.000")
