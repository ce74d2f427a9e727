from __future__ import annotations

import ast
from pathlib import Path

import httpx2
import pytest

from rig.server import ServerProcess

ROOT = Path(__file__).parents[2]


def imported_packages(folder: str) -> set[str]:
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.thorough
def test_the_service_answers_with_stand_ins_for_its_engine_and_its_decoding(cat: bytes) -> None:
    program = ("-m", "rig.stand_in", "--streams=2", "--image-ms=1")
    with ServerProcess(program=program) as server:
        headers = {"Content-Type": "image/jpeg"}
        answer = httpx2.post(f"{server.url}/classify", content=cat, headers=headers)
    scores = [one["score"] for one in answer.json()["predictions"]]
    assert scores == pytest.approx([1 / 1001] * 5)


@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("rig", {"bench", "tests"}),
        ("bench", {"tests"}),
        ("tests", {"bench"}),
        ("app", {"bench", "rig", "tests"}),
        ("model", {"bench", "rig", "tests"}),
    ],
)
def test_what_measures_and_what_tests_share_the_rig_alone(folder: str, others: set[str]) -> None:
    assert not imported_packages(folder) & others
