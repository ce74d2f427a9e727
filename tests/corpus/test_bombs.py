"""What looks small and is not costs the decoder next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.corpus.row import Row
from tests.corpus.table import BOMBS

pytestmark = [pytest.mark.reliability, pytest.mark.thorough]

GROWTH_KIB = 20 * 1024


@pytest.fixture(scope="module")
def costs() -> dict[str, tuple[float, int, bool]]:
    """Time as a multiple of a phone's photo's, growth in KiB, whether pixels were decoded."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.corpus.measure"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    measured: dict[str, tuple[float, int, bool]] = json.loads(output)
    return measured


@pytest.mark.parametrize("row", BOMBS, ids=str)
def test_a_bomb_costs_the_decoder_no_more_than_a_phone_s_photo(
    costs: dict[str, tuple[float, int, bool]], row: Row
) -> None:
    photos, growth_kib, decoded = costs[str(row)]
    assert photos <= 3 * row.work
    assert growth_kib <= GROWTH_KIB
    assert decoded == (row.status == 200)
