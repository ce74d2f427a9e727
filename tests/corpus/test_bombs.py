"""What looks small and is not costs the decoder next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.corpus.row import Row
from tests.corpus.table import BOMBS

pytestmark = pytest.mark.reliability

CPU_MS = 50
GROWTH_KIB = 20 * 1024


@pytest.fixture(scope="module")
def costs() -> dict[str, tuple[float, int]]:
    """Processor time in milliseconds and growth in KiB, by row."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.corpus.measure"]
    output = subprocess.run(command, capture_output=True, check=True, timeout=100).stdout
    measured: dict[str, tuple[float, int]] = json.loads(output)
    return measured


@pytest.mark.parametrize("row", BOMBS, ids=str)
def test_a_bomb_takes_little_time_and_memory(costs: dict[str, tuple[float, int]], row: Row) -> None:
    cpu_ms, growth_kib = costs[str(row)]
    assert cpu_ms <= CPU_MS
    assert growth_kib <= GROWTH_KIB
