"""Who can use the page: with a keyboard, a key, a small screen, eyes that see less."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import LiveServer
from tests.image_files import uniform
from tests.optional import playwright
from tests.page.conftest import KEY, NARROW, OpenPage

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]


def focused(page: playwright.Page) -> str:
    text: str = page.evaluate("document.activeElement.innerText.trim()")
    return text


def tab_to(page: playwright.Page, text: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == text:
            return
    pytest.fail(f"The keyboard does not reach {text!r}.")


def test_a_keyboard_alone_is_enough(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    page = visit.page
    with page.expect_file_chooser():
        tab_to(page, "Choose pictures")
        page.keyboard.press("Enter")
    tab_to(page, "Try the cat")
    page.keyboard.press("Enter")
    assert visit.bars[0][0] == "tabby, tabby cat"
    tab_to(page, "Copy")
    page.evaluate("document.activeElement.blur()")
    page.locator("#tab-classify").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="How alike are two pictures?")).to_be_visible()
    assert focused(page) == "Compare"
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Classify")).to_have_attribute("aria-selected", "true")


def test_arrows_go_through_the_grid(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.drop({f"{value}.png": uniform(value) for value in (10, 200, 90)})
    cards = visit.page.locator(".card")
    cards.first.focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowRight")
    expect(cards.nth(2)).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(cards.nth(2)).to_have_attribute("aria-current", "true")
    expect(visit.page.locator("#stage img")).to_have_attribute("alt", "Your picture: 90.png")


def test_a_service_with_keys_asks_for_one_and_keeps_it_in_the_tab(
    locked: LiveServer, open_page: OpenPage
) -> None:
    visit = open_page(locked.url, expected={401})
    page = visit.page
    dialog = page.get_by_role("dialog", name="This service asks for a key")
    expect(dialog).to_be_visible()
    page.keyboard.type("a.wrong-key")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("was not accepted")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    visit.wait_live()
    expect(page.locator("#served")).to_contain_text("onnx")
    page.get_by_role("button", name="Try the cat").click()
    assert visit.bars[0][0] == "tabby, tabby cat"
    expect(page.locator("#stage .curl")).to_contain_text("Authorization: Bearer $KEY")
    assert KEY not in page.content()
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_who_has_no_key_is_told_and_can_enter_one_later(
    locked: LiveServer, open_page: OpenPage
) -> None:
    visit = open_page(locked.url, expected={401})
    page = visit.page
    page.get_by_role("button", name="Not now").click()
    expect(page.locator("#link")).to_have_text("needs a key")
    page.get_by_role("button", name="Try the cat").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#stage .sentence")).to_contain_text("Send a key of this service")
    page.get_by_role("button", name="Enter the key").click()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    visit.wait_live()
    page.get_by_role("button", name="Try the coffee").click()
    expect(page.locator("#stage .bars")).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_that_keeps_people_out(
    server: LiveServer, open_page: OpenPage, color_scheme: str, viewport: Any
) -> None:
    # axe writes into the page, which the page's policy forbids; motion would blur colours.
    options = {"viewport": viewport} if viewport else {}
    visit = open_page(
        server.url, {415}, color_scheme=color_scheme, bypass_csp=True, reduced_motion="reduce",
        **options,
    )  # fmt: skip
    page = visit.page
    visit.wait_live()
    assert visit.barriers() == []
    page.get_by_role("button", name="Try the cat").click()
    expect(page.locator("#stage .bars")).to_be_visible()
    assert visit.barriers() == []
    visit.drop({"notes.txt": b"no picture", "grey.png": uniform(90)})
    expect(page.locator(".card[data-state=failed]")).to_be_visible()
    assert visit.barriers() == []
    page.get_by_role("tab", name="Compare").click()
    assert visit.barriers() == []
    visit.drop({"one.png": uniform(90), "other.png": uniform(200)})
    expect(page.locator("#compare-curl code")).to_be_visible()
    assert visit.barriers() == []


@pytest.mark.parametrize(("color_scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_is_as_dark_as_the_reader_likes_it(
    server: LiveServer, open_page: OpenPage, *, color_scheme: str, is_dark: bool
) -> None:
    visit = open_page(server.url, color_scheme=color_scheme)
    with Image.open(BytesIO(visit.page.screenshot())) as picture:
        background = int(np.asarray(picture.convert("L"))[4, 4])
    assert background < 60 if is_dark else background > 200


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_dialog_for_a_key(
    locked: LiveServer, open_page: OpenPage, color_scheme: str
) -> None:
    visit = open_page(locked.url, {401}, color_scheme=color_scheme, bypass_csp=True)
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    assert visit.barriers() == []


def test_nothing_is_wider_than_a_small_screen(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(server.url, {415}, viewport=NARROW, has_touch=True, is_mobile=True)
    page = visit.page

    def width() -> int:
        found: int = page.evaluate("document.documentElement.scrollWidth")
        return found

    visit.wait_live()
    assert width() == 320
    visit.drop({"a-name-without-any-place-to-break-it-at-all-really-none.jpg": cat, "b": b"no"})
    assert visit.bars
    assert width() == 320
    page.get_by_role("tab", name="Compare").click()
    assert width() == 320
    visit.drop({"one.jpg": cat, "other.jpg": cat})
    expect(page.locator("#compare-curl code")).to_be_visible()
    assert width() == 320


def test_who_wants_no_motion_sees_none(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url, reduced_motion="reduce")
    visit.page.get_by_role("button", name="Try the cat").click()
    assert visit.bars
    assert visit.page.evaluate("document.getAnimations().length") == 0
