"""The page's files as a client gets them; tests/page looks at it in a browser."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.page import routes as page
from tests.conftest import LiveServer, serve
from tests.fakes import FakeEngine

STATIC = Path("app/api/page/static")
PAGE = [path for path in STATIC.iterdir() if path.is_file()]
MAX_BYTES = 60_000


def policy(answer: httpx2.Response) -> dict[str, str]:
    rules = answer.headers["Content-Security-Policy"].split("; ")
    return dict(rule.split(" ", 1) for rule in rules)


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/samples/cat.jpg"])
def test_every_file_lets_nothing_in_but_its_own(client: httpx2.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    rules = policy(answer)
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["img-src"] == "'self' blob:"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_browser_that_has_a_file_is_not_sent_it_again(client: httpx2.Client) -> None:
    for path in ("/", "/static/page.css"):
        first = client.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]


def test_another_content_has_another_etag_though_size_and_time_are_the_same(
    tmp_path: Path,
) -> None:
    file = tmp_path / "page.css"
    tags = []
    for content in (b"old", b"new"):
        file.write_bytes(content)
        os.utime(file, (1, 1))
        page._read_etag.cache_clear()  # another process
        response = page.files.file_response(file, file.stat(), {"type": "http", "headers": []})
        tags.append(response.headers["ETag"])
    assert tags[0] != tags[1]


def test_curl_gets_html_and_head_works(client: httpx2.Client, live_server: LiveServer) -> None:
    done = subprocess.run(
        ["/usr/bin/curl", "-sSf", live_server.url], capture_output=True, check=True
    )
    assert done.stdout == (STATIC / "index.html").read_bytes()
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == "text/html; charset=utf-8"
    assert int(head.headers["Content-Length"]) == len(done.stdout)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/", 404),
        ("GET", "/static/%2e%2e/main.py", 404),
        ("GET", "/static/..%2fmain.py", 404),
        ("GET", "/static//etc/passwd", 404),
        ("GET", "/static/%00", 404),
        ("POST", "/", 405),
        ("POST", "/static/main.js", 405),
        ("POST", "/live", 405),
    ],
)
def test_what_is_not_there_is_a_problem_document(
    client: httpx2.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_without_the_page_its_paths_are_not_there(fake_engine: FakeEngine) -> None:
    with serve(page=False) as server:
        for path in ("/", "/static/main.js", "/static/samples/cat.jpg", "/live"):
            answer = httpx2.get(f"{server.url}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert httpx2.get(f"{server.url}/docs").status_code == 200


def test_the_page_weighs_less_than_a_photo() -> None:
    assert sum(path.stat().st_size for path in PAGE) < MAX_BYTES


def test_the_page_fetches_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    for path in PAGE:
        addresses = set(re.findall(r"https?://[^\s\"'`]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)


def test_every_file_that_the_page_names_is_there(client: httpx2.Client) -> None:
    named: set[Any] = set()
    for path in PAGE:
        text = path.read_text()
        named |= set(re.findall(r"/static/[\w./-]+\.\w+", text))
        named |= {f"/static/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert len(named) > 10
    for path in named:
        assert client.get(path).status_code == 200, path


def test_the_samples_come_with_their_licences() -> None:
    text = (STATIC / "samples" / "README.md").read_text()
    credit = (STATIC / "index.html").read_text()
    for sample in (STATIC / "samples").glob("*.jpg"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {sample.name} "))
        assert "CC0" in row or "public domain" in row
    for owner in ("Stefan van der Walt", "Rachel Michetti", "NASA"):
        assert owner in text
        assert owner in credit
