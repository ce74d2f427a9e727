"""The container as it is meant to be run: locked down, in 1 GiB, with the largest images there are.

CONTAINERS in the environment is the engine's command, `docker` by default.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.corpus.row import CAT
from tests.deploy.container import ENGINE, Container, command
from tests.model.images.image_files import encode
from tests.reliability.client import parse, talk
from tests.reliability.generator import Generator, probe
from tests.reliability.load import Load
from tests.reliability.mix import closing
from tests.reliability.mutation import post
from tests.reliability.pinned import CLASSIFY, run

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
IMAGE = "mobilenet-serve:reliability"
LIMITS = ("--pids-limit=128", "--memory=1g", "--memory-swap=1g")
PEAK_MIB = 900
AT_ONCE = 32
USUAL = ("/classify", "/embed", "/embed?layer=5,11,13")
DEAREST = "/embed?output_stride=8&size=512"
"""With a graph of its own, and the most memory that an image can take in the engine."""
SIDE = 5000
"""25 megapixels, the most that is allowed."""


@pytest.fixture(scope="module")
def image() -> str:
    try:
        command("info")
    except (OSError, AssertionError):
        pytest.skip(
            f"no container engine answers to `{shlex.join(ENGINE)}`: start one, or name another"
            " in CONTAINERS"
        )
    command("build", "--tag", IMAGE, str(ROOT))
    return IMAGE


@pytest.fixture
def container(image: str) -> Iterator[Container]:
    with Container(image, *LIMITS) as one:
        yield one


def test_it_runs_with_the_least_rights_and_writes_nothing(container: Container) -> None:
    answer = httpx2.post(f"{container.url}/classify", files={"file": CAT.read_bytes()})
    assert answer.status_code == 200
    assert container.status("Uid").split() == ["10001"] * 4
    assert container.status("Gid").split() == ["10001"] * 4
    for capabilities in ("CapEff", "CapPrm", "CapBnd"):
        assert int(container.status(capabilities), 16) == 0
    assert container.status("NoNewPrivs") == "1"
    written = command("diff", container.id).splitlines()
    # Engines add what they mount: their own files, nothing of the service's.
    assert not [line for line in written if "/srv" in line or "/venv" in line]
    assert container.state == "false true 0"


def largest_images() -> list[bytes]:
    """As many pixels as allowed in each costly format, and no more bytes than a body may have."""
    ramp = np.linspace(0, 255, SIDE).astype(np.uint8)
    plane = np.tile(ramp, (SIDE, 1))
    colour = Image.fromarray(np.dstack((plane, plane.T, plane[::-1])))
    clear = colour.copy()
    clear.putalpha(Image.fromarray(plane))
    deep = Image.fromarray(plane.astype(np.uint16) * 257)
    images = [
        encode(colour, "JPEG", progressive=True, quality=85),
        encode(colour.convert("CMYK"), "JPEG", progressive=True),
        encode(clear, "WEBP", lossless=True, method=0, quality=0),
        encode(deep, "PNG", compress_level=1),
        encode(clear, "PNG", compress_level=1),
    ]
    assert all(len(image) <= 10 * 2**20 for image in images)
    return images


@pytest.mark.parametrize("paths", [USUAL, (*USUAL, DEAREST)], ids=["usual", "dearest"])
def test_the_largest_images_at_full_concurrency_stay_within_1_gib(
    container: Container, request: pytest.FixtureRequest, paths: tuple[str, ...]
) -> None:
    seconds: float = request.config.getoption("--load-seconds")
    requests = [
        closing(post(path, image, "image/jpeg")) for image in largest_images() for path in paths
    ]
    seen: Counter[int] = Counter()

    async def client(first: int, end: float) -> None:
        number = first
        while time.monotonic() < end:
            answers = parse(await talk(container.address, requests[number % len(requests)], 60))
            # A client that sends a MiB past its refusal is cut off, and may not hear of it.
            status = answers[0].status if answers else 429
            seen[status] += 1
            number += 1
            if status == 429:
                await asyncio.sleep(0.05)

    async def load() -> None:
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for first in range(AT_ONCE):
                group.create_task(client(first, end))

    asyncio.run(load())
    peak_mib = container.peak_mib
    print(f"peak {peak_mib:.0f} MiB, answers {dict(seen)}")  # noqa: T201  # shown with -s
    assert peak_mib <= PEAK_MIB
    assert set(seen) <= {200, 429, 504}
    assert seen[200] > seconds / 2
    assert container.state == "false true 0"


def test_with_half_a_core_it_does_half_as_much_and_its_probes_answer_in_time(
    image: str, request: pytest.FixtureRequest
) -> None:
    seconds = max(5.0, request.config.getoption("--load-seconds") / 4)
    goodput = {}
    for cores in (0.5, 1.0):
        with Container(image, *LIMITS, f"--cpus={cores}") as container:
            # So few that none is refused, and asks again at once, and again.
            most = run(Generator(container.address, CLASSIFY).keep_busy(4, seconds)).goodput()

            async def overload(address: tuple[str, int], rate: float) -> tuple[Load, Load]:
                return await asyncio.gather(
                    Generator(address, CLASSIFY).offer(rate, seconds),
                    probe(address, ("/livez", "/readyz"), seconds),
                )

            load, probes = run(overload(container.address, 5 * most))
        goodput[cores] = load.goodput()
        print(  # noqa: T201  # shown with -s
            f"{cores} cores: {most:.1f}/s closed loop, {load.goodput():.1f}/s at five times that,"
            f" slowest probe {probes.latency_ms(200, 1):.0f} ms"
        )
        assert set(load.statuses) == {200, 429}
        assert set(probes.statuses) == {200}
        assert probes.latency_ms(200, 1) < 1000
        assert load.goodput() >= 0.8 * most
    assert 0.35 <= goodput[0.5] / goodput[1.0] <= 0.65
