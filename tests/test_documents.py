"""What README.md and the pages of docs/ say, done."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CLIENTS, START, SEARCH = (ROOT / "docs" / f"{name}.md" for name in ("clients", "start", "search"))
EVERY_PAGE = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = CLIENTS.read_text()
_BLOCK = re.compile(r"```(sh|python|js)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*localhost:8000.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_LOADED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["']?(?:https?:)?//|url\(["']?https?:"""
)
_REQUEST = re.compile(r"`(GET|POST) (/[^`]*)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and what it prints."""

    language: str
    code: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.language} {self.code.splitlines()[0][:40]}"


def blocks_of(path: Path) -> list[Block]:
    return [Block(*found.groups()) for found in _BLOCK.finditer(path.read_text())]


BLOCKS = blocks_of(CLIENTS)
COMMANDS = [Block("sh", found[1], None) for found in _COMMAND.finditer(README.read_text())]
REQUESTS = _REQUEST.findall(
    "\n".join(row.split("|")[2] for row in TEXT.splitlines() if "| `" in row)
)


_PACKAGES = {"bash": "bash", "curl": "curl", "node": "nodejs"}


def find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {_PACKAGES[program]}")
    return path


def command(block: Block, code: str) -> list[str]:
    match block.language:
        case "sh":
            find("curl")
            return [find("bash"), "-euc", code]
        case "js":
            return [find("node"), "--input-type=module", "--eval", code]
    return [sys.executable, "-c", code]


def marked(block: Block) -> Any:
    """A client's library takes a second to import; Triton's is only there for thorough tests."""
    marks = [pytest.mark.thorough] if block.language == "python" else []
    return pytest.param(block, marks=marks, id=str(block))


@pytest.mark.parametrize(
    "block",
    [marked(block) for block in [*BLOCKS, *blocks_of(START), *blocks_of(SEARCH), *COMMANDS]],
)
def test_a_block_of_code_does_what_it_says(
    live_server: LiveServer, block: Block, tmp_path: Path
) -> None:
    for name in ("tests", "README.md"):  # what is written lands beside them
        (tmp_path / name).symlink_to(ROOT / name)
    address = live_server.url.removeprefix("http://")
    assert "localhost:8000" in block.code
    code = block.code.replace("localhost:8000", address)
    done = subprocess.run(
        command(block, code), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout.rstrip() == block.output.rstrip()


def test_every_language_and_client_is_there() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "js"}
    every = "".join(block.code for block in BLOCKS)
    assert all(name in every for name in ("curl", "httpx2", "fetch(", "InferenceClient", "OpenAI("))
    assert "InferenceServerClient" in every


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_what_replaces_a_request_to_torchserve_is_there(
    client: httpx2.Client, method: str, path: str
) -> None:
    answer = client.request(method, path.replace("{model}", DEFAULT_DIRECTORY.name))
    assert answer.status_code not in {404, 405}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page: Path) -> None:
    """Pictures too, which the site's builder does not look for, and those of the README."""
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_shows_the_page_and_the_plot_and_is_short() -> None:
    text = README.read_text()
    assert {"docs/page.png", "docs/throughput.svg"} <= set(re.findall(r"!\[[^]]+\]\((.+?)\)", text))
    assert len(text.splitlines()) < 150


def test_the_site_has_every_page() -> None:
    navigation = (ROOT / "zensical.toml").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in navigation]
    assert not missing


@pytest.mark.thorough
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_other_hosts(
    tmp_path: Path,
) -> None:
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    program = str(Path(sys.executable).with_name("zensical"))
    command = [program, "build", "--strict"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*(tmp_path / "site").rglob("*.html"), *(tmp_path / "site").rglob("*.css")]
    assert len(pages) > len(EVERY_PAGE) - 2
    for page in pages:
        assert not _LOADED.findall(page.read_text()), page
        assert 'class="mermaid"' not in page.read_text(), "its script would be fetched"
