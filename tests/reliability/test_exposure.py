"""It calls nobody, writes nothing, and its log stays readable."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.corpus.exchanges import FILE_NAMES, form
from tests.corpus.row import CAT
from tests.corpus.server import Watched, watch
from tests.corpus.table import ROWS
from tests.reliability.client import in_parallel, parse, talk
from tests.reliability.mix import closing
from tests.reliability.mutation import post

pytestmark = pytest.mark.reliability

AUDITED = """
import os, sys
def tell(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"}:
        os.write(1, f"AUDIT {event} {arguments[1:]}\\n".encode())
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(1, f"AUDIT open {arguments}\\n".encode())
from app.cli.main import main
sys.addaudithook(tell)
main()
"""
WRITES = AUDITED.replace("from app.cli.main", "import app.api.routes.native, tempfile").replace(
    "import main\n",
    """
read = app.api.routes.native.read_image
async def writing(request):
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return await read(request)
app.api.routes.native.read_image = writing
from app.cli.main import main
""",
)


def audited(program: str) -> list[str]:
    """What a server does besides answering, once it listens."""
    with watch(program=program) as server:
        for row in [row for row in ROWS if not row.slow][::7]:
            server.client.post("/classify", files={"file": row.make()})
        server.client.post("/classify/batch", files=[("file", CAT.read_bytes())] * 9)
        server.client.post("/classify", json={"image": "http://192.0.2.1/a.jpg"})
        server.client.get("/openapi.json")
        server.client.get("/docs")
        server.check()
        ready = next(n for n, line in enumerate(server.log) if "Ready after" in line)
        return [line for line in server.log[ready:] if line.startswith("AUDIT")]


@pytest.mark.thorough
def test_a_running_service_connects_to_nobody_and_opens_no_file_to_write() -> None:
    assert audited(AUDITED) == []


@pytest.mark.slow
def test_a_file_that_is_written_would_be_seen() -> None:
    assert audited(WRITES)


def isolated(*arguments: str) -> dict[str, Any]:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed: apt-get install util-linux")
    rights = [unshare, "--map-root-user", "--mount", "--net"]
    if subprocess.run([*rights, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no namespaces: run as root, or allow user namespaces")
    command = [*rights, sys.executable, "-m", "tests.reliability.isolated", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["writable"] == []
    return told


@pytest.mark.slow
def test_without_a_network_or_a_file_to_write_all_is_answered_and_no_packet_sent() -> None:
    told = isolated()
    assert told["wrong"] == []
    assert told["packets"] == 0


@pytest.mark.slow
def test_a_packet_that_is_sent_would_be_counted() -> None:
    assert isolated("probe")["packets"] > 0


def access_lines(server: Watched) -> list[dict[str, Any]]:
    """Those of all requests until now; the check ends with one that is seen in the log."""
    server.check()
    while '"/metrics"' not in server.log[-1]:
        time.sleep(0)
    return [json.loads(line) for line in server.log if '"logger": "access"' in line]


def failing() -> list[bytes]:
    """One request of each bad kind, and what would break a log that is not escaped."""
    odd = "/%0d%0aevil%1b[31m%00%c2%9b%e2%80%ae"
    kind = "multipart/form-data; boundary=B"
    names = (form(b'name="x"; filename=' + name) for name in FILE_NAMES.values())
    images = (row.make() for row in ROWS if row.status != 200 and not row.slow)
    return [
        *(post("/classify", body, kind) for body in names),
        *(post("/classify", image, "image/png") for image in images),
        f"GET {odd} HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\x9b\r\n\r\n".encode(),
        b"GET /%ff HTTP/1.1\r\nHost: x\r\nUser-Agent: \x9b31m\r\n\r\n",
        b"GET /\r\nevil HTTP/1.1\r\n\r\n",
    ]


@pytest.mark.thorough
def test_a_failed_request_has_one_line_without_control_characters() -> None:
    requests = [closing(request) for request in failing()]
    with watch() as server:
        before = len(access_lines(server))

        async def send(request: bytes) -> None:
            (answer,) = parse(await talk(server.address, request))
            assert 400 <= answer.status < 500

        asyncio.run(in_parallel(requests, 1, send))
        lines = access_lines(server)[before:]
        asked = [line for line in lines if line["status"] >= 400]
        assert len(asked) == len(requests)
        assert all(line.rstrip("\n").isprintable() for line in server.log)
        assert not [line for line in server.log if "Traceback" in line or "evil\x1b" in line]


@pytest.mark.slow
def test_refusals_under_overload_do_not_flood_the_log() -> None:
    requests = [closing(post("/classify", CAT.read_bytes(), "image/jpeg"))] * 1000
    with watch("--queue-ms", "1", "--max-connections", "16") as server:
        started = time.monotonic()

        async def send(request: bytes) -> int:
            answers = parse(await talk(server.address, request), whole=False)
            return answers[0].status if answers else 0

        statuses = asyncio.run(in_parallel(requests, 64, send))
        seconds = time.monotonic() - started
        shed = [line for line in access_lines(server) if line["status"] == 429]
    assert statuses.count(429) > 500
    # The queue and the connections are two kinds.
    assert 1 <= len(shed) <= 2 * (seconds + 1)
