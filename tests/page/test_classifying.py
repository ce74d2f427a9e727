"""Pictures come in, answers fill the page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.conftest import IMAGES, LiveServer
from tests.image_files import uniform
from tests.optional import playwright
from tests.page.conftest import OpenPage

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]

TEXT = b"This is no picture."


def ask(server: LiveServer, image: bytes, top_k: int = 5) -> list[tuple[str, str]]:
    answer = httpx2.post(f"{server.url}/classify?top_k={top_k}", files={"file": image})
    return [(one["label"], f"{100 * one['score']:.1f} %") for one in answer.json()["predictions"]]


def test_a_dropped_picture_is_answered_in_bars(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(server.url)
    visit.drop({"mine.jpg": cat})
    assert visit.bars == ask(server, cat)
    page = visit.page
    widths = page.locator("#stage .track i").evaluate_all("all => all.map((i) => i.style.width)")
    assert float(widths[0].rstrip("%")) == pytest.approx(43.1, abs=0.5)
    for stage in ("decoding", "waiting", "inference"):
        expect(page.locator(".timing")).to_contain_text(re.compile(rf"{stage} [\d.]+"))
    expect(page.locator("#stage .batch")).to_have_text("Alone in its batch.")
    expect(page.locator("#said")).to_contain_text("tabby, 43.1 %; ")
    expect(page.get_by_role("img", name="Your picture: mine.jpg")).to_be_visible()


@pytest.mark.parametrize(
    ("size", "cache", "sentence", "dots"),
    [
        (1, "miss", "Alone in its batch.", 1),
        (3, "miss", "Shared its batch with 2 other pictures.", 3),
        (
            2,
            "shared",
            "Shared its batch with 1 other picture, and its answer with another request.",
            2,
        ),
        (3, "hit", "The answer was kept from an earlier request.", 0),
    ],
)
def test_where_the_time_went_and_which_batch_it_shared_is_what_the_service_says(
    server: LiveServer,
    open_page: OpenPage,
    cat: bytes,
    *,
    size: int,
    cache: str,
    sentence: str,
    dots: int,
) -> None:
    visit = open_page(server.url)
    answer = {
        "predictions": [{"label": "tabby, tabby cat", "score": 0.5}],
        "timing_ms": {"decode": 3.5, "queue": 20, "inference": 40, "total": 70},
        "batch_size": size,
    }
    visit.page.route(
        "**/classify?*", lambda route: route.fulfill(json=answer, headers={"X-Cache": cache})
    )
    visit.drop({"cat.jpg": cat})
    assert visit.bars == [("tabby, tabby cat", "50.0 %")]
    timing = visit.page.locator("#stage .timing")
    expect(timing.locator("li")).to_have_text(
        ["decoding 3.5", "waiting 20", "inference 40", "the rest 6.5"]
    )
    shares = timing.locator(".stages i").evaluate_all("all => all.map((i) => i.style.flexGrow)")
    assert [float(share) for share in shares] == [3.5, 20, 40, 6.5]
    expect(timing).to_contain_text("Answered in 70 ms")
    expect(visit.page.locator("#stage .batch")).to_have_text(sentence)
    expect(visit.page.locator("#stage .dots i")).to_have_count(dots)


def test_more_classes_are_shown_when_asked_for(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(server.url)
    visit.drop({"cat.jpg": cat})
    visit.page.get_by_label("Classes").select_option("10")
    expect(visit.page.locator("#stage .bars li")).to_have_count(10)
    assert visit.bars == ask(server, cat, 10)
    expect(visit.page.locator("#stage .curl")).to_contain_text("top_k=10")


def test_more_classes_may_be_asked_for_before_the_answer_is_there(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(server.url)
    held: list[playwright.Route] = []

    def hold(route: playwright.Route) -> None:
        held.append(route)

    visit.page.route("**/classify?top_k=5", hold)
    with visit.page.expect_request("**/classify?top_k=5"):
        visit.drop({"cat.jpg": cat})
    visit.page.get_by_label("Classes").select_option("10")
    held[0].continue_()
    expect(visit.page.locator("#stage .bars li")).to_have_count(10)


def test_a_sample_is_one_click_away(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    visit.page.get_by_role("button", name="Try the coffee").click()
    assert visit.bars[0][0] == "espresso"
    visit.page.get_by_role("button", name="Start over").click()
    expect(visit.page.get_by_role("heading", name="What is in the picture?")).to_be_in_viewport()
    expect(visit.page.locator("#stage")).to_be_hidden()


def test_files_are_chosen_and_the_same_one_twice(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    for count in (1, 2):
        with visit.page.expect_file_chooser() as chooser:
            visit.page.get_by_role("button", name="Choose pictures").click()
        assert chooser.value.is_multiple()
        chooser.value.set_files(IMAGES / "rocket.jpg")
        expect(visit.page.locator("#grid li")).to_have_count(count)
    assert visit.bars[0][0] == "missile"


def test_a_phone_takes_a_photo(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url, has_touch=True, is_mobile=True)
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Take a photo").click()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(IMAGES / "coffee.jpg")
    assert visit.bars[0][0] == "espresso"
    desk = open_page(server.url)
    expect(desk.page.get_by_role("button", name="Take a photo")).to_be_hidden()


def test_a_picture_is_pasted(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url, permissions=["clipboard-read", "clipboard-write"])
    visit.page.evaluate(
        """async () => {
          const bitmap = await createImageBitmap(document.querySelectorAll(".samples img")[1]);
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          canvas.getContext("2d").drawImage(bitmap, 0, 0);
          const blob = await canvas.convertToBlob();
          await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }"""
    )
    visit.page.keyboard.press("Control+V")
    assert visit.bars[0][0] == "espresso"


def test_a_file_that_is_no_picture_shows_the_sentence_of_the_service(
    server: LiveServer, open_page: OpenPage
) -> None:
    visit = open_page(server.url, expected={415})
    visit.drop({"notes.txt": TEXT})
    problem = httpx2.post(f"{server.url}/classify", files={"file": TEXT}).json()
    expect(visit.page.locator("#stage .sentence")).to_have_text(problem["detail"])
    expect(visit.page.locator("#stage .no-photo")).to_have_text("notes.txt")


def test_a_file_that_is_too_large_is_not_sent(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url)
    expect(visit.page.locator("#served")).to_contain_text("onnx")  # /info has come
    # Playwright's own bridge to the browser carries less.
    visit.page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(11 * 2 ** 20)], "large.bmp"));
          const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
          document.body.dispatchEvent(event);
        }"""
    )
    expect(visit.page.locator("#stage .sentence")).to_contain_text("11.0 MiB")
    assert not [url for url in visit.asked if "/classify?" in url]


def test_several_files_fill_a_grid_a_few_at_a_time(server: LiveServer, open_page: OpenPage) -> None:
    visit = open_page(server.url, expected={415})
    under_way: set[playwright.Request] = set()
    most = 0

    def begin(request: playwright.Request) -> None:
        nonlocal most
        if "/classify?" in request.url:
            under_way.add(request)
            most = max(most, len(under_way))

    def end(request: playwright.Request) -> None:  # Playwright writes on what it calls
        under_way.discard(request)

    visit.page.on("request", begin)
    visit.page.on("requestfinished", end)
    pictures = {f"{value}.png": uniform(value) for value in range(24)}
    visit.drop({**pictures, "notes.txt": TEXT})
    expect(visit.page.locator(".card[data-state=done]")).to_have_count(24)
    expect(visit.page.locator(".card[data-state=failed]")).to_have_count(1)
    expect(visit.page.locator("#progress")).to_contain_text("24 answered · 1 without an answer")
    expect(visit.page.locator("#meter")).to_be_hidden()
    assert 1 < most <= 5
    visit.page.locator(".card").last.click()
    expect(visit.page.locator("#stage .sentence")).to_be_visible()


def test_a_service_that_is_busy_is_asked_again_when_it_said(
    server: LiveServer, open_page: OpenPage, cat: bytes, coffee: bytes
) -> None:
    visit = open_page(server.url, expected={429})
    page = visit.page
    page.clock.install()
    refusals = 0

    def refuse_once(route: playwright.Route) -> None:
        nonlocal refusals
        refusals += 1
        if refusals > 1:
            route.fallback()
        else:
            route.fulfill(status=429, headers={"Retry-After": "30"}, json={"detail": "Full."})

    page.route("**/classify?*", refuse_once)
    visit.drop({"cat.jpg": cat})
    expect(page.locator("#stage h2")).to_have_text("Busy. Asking again in 30 seconds.")
    visit.drop({"coffee.jpg": coffee})
    page.clock.run_for(29_000)
    assert refusals == 1
    page.clock.run_for(2_000)
    expect(page.locator(".card[data-state=done]")).to_have_count(2)


def test_a_service_that_is_gone_is_said_to_be_and_can_be_asked_again(
    server: LiveServer, open_page: OpenPage, cat: bytes
) -> None:
    visit = open_page(server.url)
    visit.page.route("**/classify?*", lambda route: route.abort("connectionrefused"))
    visit.drop({"cat.jpg": cat})
    expect(visit.page.locator("#stage .sentence")).to_have_text("The service cannot be reached.")
    assert [text for text in visit.complaints if "ERR_CONNECTION_REFUSED" not in text] == []
    visit.complaints.clear()
    visit.page.unroute("**/classify?*")
    visit.page.get_by_role("button", name="Ask again").click()
    assert visit.bars == ask(server, cat)


@pytest.mark.parametrize("name", ["cat.jpg", """-it's "$(touch x)"; `id`,type=a\\b\n.jpg"""])
def test_the_line_for_curl_does_the_same_whatever_the_file_is_called(
    server: LiveServer, open_page: OpenPage, tmp_path: Path, cat: bytes, name: str
) -> None:
    shown = name.replace("\n", "?")
    (tmp_path / shown).write_bytes(cat)
    visit = open_page(server.url, permissions=["clipboard-read", "clipboard-write"])
    visit.drop({name: cat})
    bars = visit.bars
    visit.page.get_by_role("button", name="Copy").click()
    expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
    line = visit.page.evaluate("navigator.clipboard.readText()")
    assert line == visit.page.locator("#stage .curl code").inner_text()
    answer = run(line, tmp_path)
    assert [label for label, _ in bars] == [one["label"] for one in answer["predictions"]]
    assert [path.name for path in tmp_path.iterdir()] == [shown]


def test_the_line_for_curl_fetches_a_sample_itself(
    server: LiveServer, open_page: OpenPage, tmp_path: Path
) -> None:
    visit = open_page(server.url)
    visit.page.get_by_role("button", name="Try the rocket").click()
    label = visit.bars[0][0]
    line = visit.page.locator("#stage .curl code").inner_text()
    assert run(line, tmp_path)["predictions"][0]["label"] == label


def run(line: str, folder: Path) -> dict[str, list[dict[str, str]]]:
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, capture_output=True, check=True, timeout=30
    )
    answer: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return answer
