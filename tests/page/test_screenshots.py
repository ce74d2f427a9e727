"""What the page looks like: pictures for people to look at, and the one of the README."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import IMAGES, LiveServer
from tests.image_files import encode
from tests.optional import playwright
from tests.page.conftest import KEY, NARROW, OpenPage
from tests.page.test_strip import load
from tests.page.visit import Visit

expect = playwright.expect
pytestmark = [pytest.mark.page, pytest.mark.slow]

README_PICTURE = Path("docs/page.png")
MAX_BYTES = 250_000
TO_THE_STRIP: Any = {"width": 1280, "height": 771}
_COLUMNS = "document.querySelector('#rate-chart .column').getAttribute('d')"
_SECONDS_OF_LOAD = 30
LOOKS: Any = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {
        "viewport": NARROW,
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
    },
}


def crops(count: int) -> Iterator[bytes]:
    """Parts of the photos, no two the same."""
    rng = np.random.default_rng(3)
    photos = [Image.open(path).convert("RGB") for path in sorted(IMAGES.glob("*.jpg"))]
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(photo.height * rng.uniform(0.7, 1))
        left, top = (
            int(rng.integers(photo.width - side + 1)),
            int(rng.integers(photo.height - side + 1)),
        )
        part = photo.crop((left, top, left + side, top + side))
        yield encode(ImageOps.mirror(part) if number % 2 else part, "JPEG", quality=92)


def shoot(visit: Visit, path: Path, *, whole: bool) -> None:
    """A picture of what is seen, or of the whole page; motion has ended then."""
    page = visit.page
    visit.wait_for("document.getAnimations().every((one) => one.playState != 'running')")
    if whole:
        page.set_viewport_size(NARROW)
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": 320, "height": height})
    page.screenshot(path=path)


def answer_many(visit: Visit, count: int) -> None:
    pictures = {f"{number:02}.jpg": data for number, data in enumerate(crops(count))}
    visit.drop({**pictures, "notes.txt": b"no picture"})
    expect(visit.page.locator(".card[data-state=failed]")).to_have_count(1, timeout=20_000)
    expect(visit.page.locator(".card[data-state=done]")).to_have_count(count + 1, timeout=20_000)
    expect(visit.page.locator("#meter")).to_be_hidden()


@pytest.mark.parametrize("look", LOOKS)
def test_every_state_is_drawn(
    server: LiveServer, locked: LiveServer, open_page: OpenPage, screenshots: Path, look: str
) -> None:
    visit = open_page(server.url, {415}, **LOOKS[look])
    page, whole = visit.page, look == "narrow"
    visit.wait_live()
    expect(page.locator("#served")).to_contain_text("onnx")

    def draw(state: str) -> None:
        shoot(visit, screenshots / f"{look}-{state}.png", whole=whole)

    draw("empty")
    page.get_by_role("button", name="Try the cat").click()
    assert visit.bars
    draw("one")
    with load(server.url):
        visit.wait_for("parseFloat(document.getElementById('size').value) > 1")
        answer_many(visit, 20)
        draw("many")
        page.locator(".card").last.click()
        draw("failed")
    page.get_by_role("tab", name="Compare").click()
    draw("compare-empty")
    for side, sample in (("first", "cat"), ("second", "rocket")):
        samples = page.get_by_role("group", name=f"Samples for the {side} picture")
        samples.get_by_role("button", name=sample).click()
    expect(page.locator("#compare-curl code")).to_be_visible()
    draw("compare")
    visit = open_page(locked.url, {401}, **LOOKS[look])
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    visit.page.keyboard.type(KEY)
    shoot(visit, screenshots / f"{look}-key.png", whole=False)


def test_the_picture_of_the_readme_is_drawn(
    server: LiveServer, open_page: OpenPage, screenshots: Path, request: pytest.FixtureRequest
) -> None:
    visit = open_page(server.url, viewport=TO_THE_STRIP, color_scheme="light")
    page = visit.page
    visit.wait_live()
    with load(server.url, callers=10):
        visit.wait_for(f"{_COLUMNS}.split('M').length > {_SECONDS_OF_LOAD}")
        page.get_by_role("button", name="Try the cat").click()
        assert visit.bars
        # What `make serve` shows; the test's own server has whatever port was free.
        page.locator("#stage .curl code").evaluate(
            "(code, port) => { code.textContent = code.textContent.replaceAll(port, ':8000'); }",
            f":{server.url.rpartition(':')[2]}",
        )
        shoot(visit, screenshots / "readme.png", whole=False)
    if request.config.getoption("--readme-picture"):
        README_PICTURE.write_bytes(shrink(screenshots / "readme.png"))
        assert README_PICTURE.stat().st_size < MAX_BYTES


def shrink(path: Path) -> bytes:
    """The same picture in 256 colours, half of the bytes."""
    buffer = BytesIO()
    with Image.open(path) as picture:
        colours = picture.convert("RGB")
        palette = colours.quantize(256, kmeans=4)
        colours.quantize(palette=palette).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
