"""What chance makes of images, of messages and of our own OpenAPI document harms nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LiveServer
from tests.corpus.server import Watched, watch
from tests.corpus.test_corpus import INTERNAL
from tests.reliability.client import Answer, in_parallel, parse, talk
from tests.reliability.length import shortened
from tests.reliability.mutation import mutate_image, mutate_message, post

pytestmark = pytest.mark.reliability

IMAGES, SENT_IMAGES, MESSAGES = map(shortened, (20_000, 2_000, 5_000))
EXAMPLES = shortened(100)
FEW_IMAGES, FEW_SENT, FEW_MESSAGES, FEW_EXAMPLES = 600, 60, 150, 2
AT_ONCE = 32
ENDLESS = re.compile(rb"/live[ ?]")
"""What `/livez` may become: its answer ends when its client leaves."""
SILENCE_S = "0.2"
"""How long the server waits for what a damaged message does not bring."""


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    waits = ("--header-timeout-s", "--body-timeout-s", "--keep-alive-s")
    with watch(*(word for wait in waits for word in (wait, SILENCE_S))) as server:
        yield server
        server.check()
        server.check_log()


@pytest.mark.parametrize(
    "count", [FEW_IMAGES, pytest.param(IMAGES - SENT_IMAGES, marks=pytest.mark.slow)]
)
def test_a_damaged_image_is_read_or_refused(count: int) -> None:
    processes = min(2, os.cpu_count() or 1)
    share = count // processes
    command = [sys.executable, "-W", "error", "-m", "tests.reliability.fuzz_decoder"]
    running = [
        subprocess.Popen(
            [*command, str(first * share), str(share)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for first in range(processes)
    ]
    ended = [(one.communicate(), one.returncode) for one in running]
    for (output, said), code in ended:
        assert code == 0, said.decode()[-2000:]
        outcome = json.loads(output)
        assert outcome["read"] > share // 10
        assert outcome["refused"] > share // 10
        assert outcome["longest"] <= 3


def check(answers: list[Answer]) -> None:
    for answer in answers:
        assert 200 <= answer.status < 500
        if answer.status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert not INTERNAL.search(answer.body), answer.body


@pytest.mark.thorough
@pytest.mark.parametrize("count", [FEW_SENT, pytest.param(SENT_IMAGES, marks=pytest.mark.slow)])
def test_a_damaged_image_that_is_sent_is_answered(server: Watched, count: int) -> None:
    async def send(number: int) -> None:
        route = ("/classify", "/embed")[number % 2]
        answers = parse(await talk(server.address, post(route, mutate_image(number), "image/png")))
        assert len(answers) == 1
        assert answers[0].status in {200, 413, 415, 422, 429}
        check(answers)

    asyncio.run(in_parallel(range(-count, 0), AT_ONCE, send))


@pytest.mark.thorough
@pytest.mark.parametrize("count", [FEW_MESSAGES, pytest.param(MESSAGES, marks=pytest.mark.slow)])
def test_a_damaged_message_is_answered_or_closed(server: Watched, count: int) -> None:
    async def send(number: int) -> None:
        message = mutate_message(number)
        if not ENDLESS.search(message):
            check(parse(await talk(server.address, message), whole=False))

    asyncio.run(in_parallel(range(count), AT_ONCE, send))


@pytest.mark.thorough
@pytest.mark.parametrize("examples", [FEW_EXAMPLES, pytest.param(EXAMPLES, marks=pytest.mark.slow)])
def test_our_own_openapi_document_tells_what_is_answered(
    live_server: LiveServer, tmp_path: Path, examples: int
) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed: `make test-all` installs it")
    config = Path(__file__).with_name("schemathesis.toml")
    flags = ["--checks", "all", "--generation-deterministic", "--continue-on-failure"]
    command = [
        str(program),
        "--config-file",
        str(config),
        "run",
        f"{live_server.url}/openapi.json",
        *flags,
    ]
    command += ["--max-examples", str(examples), "--no-color"]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout[-10_000:]
