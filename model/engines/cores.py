"""Counts the cores that this process may use, in a container too."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def count_cores(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> int:
    """The affinity mask's cores, or the cgroup's CPU quota where that is less; at least 1.

    A quota of 1.5 cores counts as 2 threads: rounding down would leave half a core idle.
    """
    return math.ceil(binding_quota(root, membership) or _allowed())


def binding_quota(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """The cgroup's CPU quota in cores, or None where the affinity mask does not reach it."""
    quotas = [quota for folder in _cgroup_folders(root, membership) if (quota := _quota(folder))]
    return min((quota for quota in quotas if quota < _allowed()), default=None)


def _allowed() -> int:
    """The affinity mask's cores; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return allowed or 1


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """This process's cgroup and all above it, of cgroup v2 and of v1's `cpu` controller."""
    folders = {root, root / "cpu"}
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root
        elif "cpu" in controllers.split(","):
            base = root / "cpu"
        else:
            continue
        folder = base / path.lstrip("/")
        folders.update(part for part in (folder, *folder.parents) if part.is_relative_to(base))
    return sorted(folders)


def _quota(folder: Path) -> float | None:
    """CPU quota of one cgroup in cores, or None where there is none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        if quota in {"max", "-1"}:
            return None
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None
