"""One visit to the page, and what the browser had to complain of."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from tests import optional

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, JSHandle

_TRANSFER = """files => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  return transfer;
}"""
_GRAVE = {"serious", "critical"}
_LOOK_MS = 50
_MOST_LOOKS = 1200


class Visit:
    """A tab that has opened the page.

    Args:
        context: the tab's, which sees nothing of other tabs.
        url: of the server.
        expected: statuses that the browser may log as errors.

    Attributes:
        complaints: errors of the console, policy violations among them, and of scripts.
        asked: every address that was asked for.
    """

    def __init__(self, context: BrowserContext, url: str, expected: Collection[int]) -> None:
        self._expected = {str(status) for status in expected}
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(url)

    def _hear(self, message: ConsoleMessage) -> None:
        status = re.search(r"responded with a status of (\d+)", message.text)
        known = status is not None and status[1] in self._expected
        if message.type in {"error", "warning"} and not known:
            self.complaints.append(message.text)

    def wait_live(self) -> None:
        """Wait until the strip has its first snapshot."""
        optional.playwright.expect(self.page.locator("#link")).to_have_attribute(
            "data-state", "live"
        )

    def wait_for(self, expression: str) -> None:
        """Wait until JavaScript is true; Playwright's own way needs an eval in the page."""
        for _ in range(_MOST_LOOKS):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(_LOOK_MS)
        pytest.fail(f"It never came true: {expression}")

    def drop(self, pictures: Mapping[str, bytes]) -> None:
        """Drag files over the page and let them go."""
        event = {"dataTransfer": self._transfer(pictures)}
        self.page.dispatch_event("main", "dragover", event)
        optional.playwright.expect(self.page.locator("#veil")).to_be_visible()
        self.page.dispatch_event("main", "drop", event)
        optional.playwright.expect(self.page.locator("#veil")).to_be_hidden()

    def _transfer(self, pictures: Mapping[str, bytes]) -> JSHandle:
        content = [[name, base64.b64encode(data).decode()] for name, data in pictures.items()]
        return self.page.evaluate_handle(_TRANSFER, content)

    @property
    def bars(self) -> list[tuple[str, str]]:
        """Labels and scores of the answer that is shown."""
        rows = self.page.locator("#stage .bars li")
        optional.playwright.expect(rows.first).to_be_visible()
        labels = [text or "" for text in rows.locator(".label").evaluate_all(_TITLES)]
        return list(zip(labels, rows.locator(".score").all_inner_texts(), strict=True))

    def barriers(self) -> list[str]:
        """What axe finds that keeps people out."""
        self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        found: list[Any] = self.page.evaluate("axe.run()")["violations"]
        return [
            f"{one['id']}: {one['help']}: {node['html']}"
            for one in found
            if one["impact"] in _GRAVE
            for node in one["nodes"]
        ]


_TITLES = "labels => labels.map((label) => label.title)"
