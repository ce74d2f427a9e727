"""The benches' stand-ins take the places of parts that change."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from bench.server import ServerProcess

CAT = Path(__file__).parents[1] / "images" / "cat.jpg"


@pytest.mark.parametrize("decode_ms", [0, 1])
def test_the_service_answers_with_stand_ins_for_its_engine_and_its_decoding(decode_ms: int) -> None:
    program = ("-m", "bench.stand_in", "--streams=2", "--image-ms=1", f"--decode-ms={decode_ms}")
    with ServerProcess(program=program) as server:
        headers = {"Content-Type": "image/jpeg"}
        answer = httpx2.post(f"{server.url}/classify", content=CAT.read_bytes(), headers=headers)
    scores = [one["score"] for one in answer.json()["predictions"]]
    assert scores == pytest.approx([1 / 1001] * 5)
