from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from model.engines.onnx.instructions import has_dot_product

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("model name\t: Xeon\nflags\t\t: avx2 avx512f avx512_vnni amx_int8\n", True),
        ("flags\t\t: avx2 avx_vnni\n", True),
        ("Features\t: fp asimd asimdhp asimddp\n", True),
        ("flags\t\t: sse4_2 avx2\n", False),
        ("flags\t\t: avx2 avx512f avx512bw avx512_bf16\n", False),
        ("model name\t: avx_vnni\nbugs\t\t: asimddp\n", False),
        ("", False),
    ],
)
def test_the_dot_product_is_read_from_the_cpu_s_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, *, expected: bool
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    assert has_dot_product(tmp_path / "cpuinfo") is expected


def test_a_cpu_that_nothing_is_known_of_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not has_dot_product(tmp_path / "missing")


@pytest.mark.parametrize(("machine", "expected"), [("arm64", True), ("x86_64", False)])
def test_a_mac_has_one_if_it_is_apple_s_own_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, *, expected: bool
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert has_dot_product(tmp_path / "missing") is expected
