"""Memory does not grow with what is asked, and a leak would be seen."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.corpus.exchanges import BAD
from tests.corpus.server import Watched, watch
from tests.corpus.table import ROWS
from tests.reliability.client import in_parallel, parse, talk
from tests.reliability.cycles import growth
from tests.reliability.length import COARSE, shortened
from tests.reliability.mix import closing, mixed
from tests.reliability.mutation import post

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

REQUESTS, LEAKING = shortened(20_000, 5_000), shortened(10_000, 2_500)
CYCLES = shortened(10_000, 2_500)
REPEATS, FIRST_REPEATS = shortened(100, 20), 60
GROWTH_MIB = 0.5 * COARSE
"""For a thousand requests or batches, in the second half."""
BAD_GROWTH_MIB = 5
GROUP = 250
AT_ONCE = 8
LEAK = f"""
import app.api.routes.native as native
kept = []
read = native.read_image
async def leaking(request):
    kept.append(bytearray({2048 * COARSE}))
    return await read(request)
native.read_image = leaking
from app.cli.main import main
main()
"""
"""About 2 MiB for a thousand images, and more if it must be coarse."""


def measure_growth(server: Watched, requests: int) -> float:
    """Of a server that answers mixed requests, in MiB a thousand; it is asked when it rests."""

    async def send(number: int) -> None:
        answers = parse(await talk(server.address, mixed(number)), whole=False)
        assert answers
        assert all(answer.status in {200, 400, 413, 415, 422, 429} for answer in answers)

    held = []
    for first in range(0, requests, GROUP):
        asyncio.run(in_parallel(range(first, first + GROUP), AT_ONCE, send))
        held.append(server.rss_mib())
    return growth(np.array(held), GROUP / 1000)


def test_mixed_requests_do_not_make_it_grow() -> None:
    with watch() as server:
        assert measure_growth(server, REQUESTS) <= GROWTH_MIB
        server.check()


def test_a_planted_leak_is_seen() -> None:
    with watch(program=LEAK) as server:
        assert measure_growth(server, LEAKING) > GROWTH_MIB


def at_rest_mib(server: Watched) -> float:
    """Memory after small requests: Python frees some of a large one's objects in their time."""
    for _ in range(20):
        server.check()
    return server.rss_mib()


def bad_requests() -> list[bytes]:
    """Every bad image and exchange of the corpus, to both routes in turn."""
    images = [row.make() for row in ROWS if row.status != 200]
    routes = ("/classify", "/embed")
    of_images = [post(routes[n % 2], data, "image/jpeg") for n, data in enumerate(images)]
    return [*of_images, *(b"".join(exchange.make("/embed")) for exchange in BAD)]


def test_bad_requests_do_not_make_it_grow() -> None:
    requests = [closing(request) for request in bad_requests()]
    with watch() as server:

        async def send(request: bytes) -> None:
            (answer,) = parse(await talk(server.address, request))
            assert answer.status in {400, 404, 413, 415, 422}

        def repeat(count: int) -> float:
            for request in requests:
                asyncio.run(in_parallel([request] * count, 1, send))
            return at_rest_mib(server)

        # What the first ones load, and the heap that they fill, are no growth: both end.
        before = repeat(FIRST_REPEATS)
        assert repeat(REPEATS) - before <= BAD_GROWTH_MIB


@pytest.mark.parametrize(("kind", "most"), [("multipart", 1.3), ("JSON", 2.5)])
def test_a_large_body_is_held_in_few_copies(kind: str, most: float) -> None:
    image = bytes(6 * 2**20)
    if kind == "JSON":
        document = {"images": [base64.b64encode(image).decode()] * 7}
        request = post("/embed/batch", json.dumps(document).encode(), "application/json")
    else:
        part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        body = (part + image + b"\r\n") * 10 + b"--B--\r\n"
        request = post("/embed/batch", body, "multipart/form-data; boundary=B")
    with watch() as server:
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak is what is there now
        before = server.rss_mib()
        (answer,) = parse(asyncio.run(talk(server.address, closing(request))))
        assert answer.status == 415
        status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        (peak,) = (int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
        times = (peak - before) / (len(request) / 2**20)
        print(f"{kind}: {times:.1f} times its size")  # noqa: T201  # shown with -s
        assert times <= most


def test_batches_of_every_size_do_not_make_it_grow() -> None:
    command = [sys.executable, "-m", "tests.reliability.cycles", str(CYCLES)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert float(done.stdout) <= GROWTH_MIB
