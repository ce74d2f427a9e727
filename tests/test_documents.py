"""What docs/clients.md says, done."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from model.checkpoint import DEFAULT_DIRECTORY
from tests.conftest import LiveServer

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "clients.md").read_text()
_BLOCK = re.compile(r"```(sh|python|js)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
_REQUEST = re.compile(r"`(GET|POST) (/[^`]*)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and what it prints."""

    language: str
    code: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.language} {self.code.splitlines()[0][:40]}"


BLOCKS = [Block(*match) for match in (found.groups() for found in _BLOCK.finditer(TEXT))]
REQUESTS = _REQUEST.findall(
    "\n".join(row.split("|")[2] for row in TEXT.splitlines() if "| `" in row)
)


def find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"There is no {program} on the PATH.")
    return path


def command(block: Block, code: str) -> list[str]:
    match block.language:
        case "sh":
            find("curl")
            return [find("bash"), "-euc", code]
        case "js":
            return [find("node"), "--input-type=module", "--eval", code]
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_of_code_does_what_it_says(live_server: LiveServer, block: Block) -> None:
    address = live_server.url.removeprefix("http://")
    assert "localhost:8000" in block.code
    code = block.code.replace("localhost:8000", address)
    done = subprocess.run(
        command(block, code), cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert done.stdout == block.output


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
