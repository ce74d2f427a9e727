from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.engines.cores import binding_quota, count_cores

HOST = 64


@pytest.fixture(autouse=True)
def large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(HOST)))


def create(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert count_cores(tmp_path, tmp_path / "none") == HOST


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", HOST)],
)
def test_a_quota_of_cgroup_v2_counts(tmp_path: Path, limit: str, cores: int) -> None:
    create(tmp_path / "cpu.max", f"{limit}\n")
    assert count_cores(tmp_path, tmp_path / "none") == cores


@pytest.mark.parametrize(("limit", "quota"), [("50000 100000", 0.5), ("150000 100000", 1.5)])
def test_a_quota_binds_with_its_fraction(tmp_path: Path, limit: str, quota: float) -> None:
    create(tmp_path / "cpu.max", f"{limit}\n")
    assert binding_quota(tmp_path, tmp_path / "none") == quota


def test_a_quota_that_affinity_does_not_reach_does_not_bind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3})
    create(tmp_path / "cpu.max", "200000 100000")
    assert binding_quota(tmp_path, tmp_path / "none") is None


def test_half_a_core_of_cgroup_v1_is_one_thread(tmp_path: Path) -> None:
    create(tmp_path / "cpu" / "cpu.cfs_quota_us", "50000\n")
    create(tmp_path / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert count_cores(tmp_path, tmp_path / "none") == 1


def test_the_tightest_cgroup_above_the_process_counts(tmp_path: Path) -> None:
    create(tmp_path / "membership", "0::/pods/one/container\n")
    create(tmp_path / "pods" / "cpu.max", "800000 100000")
    create(tmp_path / "pods" / "one" / "cpu.max", "300000 100000")
    create(tmp_path / "pods" / "one" / "container" / "cpu.max", "max 100000")
    assert count_cores(tmp_path, tmp_path / "membership") == 3


def test_a_quota_of_cgroup_v1_counts(tmp_path: Path) -> None:
    create(tmp_path / "membership", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n")
    folder = tmp_path / "cpu" / "docker" / "abc"
    create(folder / "cpu.cfs_quota_us", "400000\n")
    create(folder / "cpu.cfs_period_us", "100000\n")
    create(tmp_path / "cpu" / "cpu.cfs_quota_us", "-1\n")
    create(tmp_path / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert count_cores(tmp_path, tmp_path / "membership") == 4


def test_a_quota_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    create(tmp_path / "cpu.max", "nonsense")
    assert count_cores(tmp_path, tmp_path / "none") == HOST


def test_the_affinity_mask_counts_where_it_is_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    create(tmp_path / "cpu.max", "800000 100000")
    assert count_cores(tmp_path, tmp_path / "none") == 1
