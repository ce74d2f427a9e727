"""What is released: one version everywhere, pinned tools, and nothing published without a tag."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from app import __version__

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PUBLISHES = re.compile(
    r"push: true|docker (?:login|push)|login-action|secrets\.|: write\b|write-all|twine|gh release"
)
"""What a workflow says that may publish something."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def text(request: pytest.FixtureRequest) -> str:
    path: Path = request.param
    return path.read_text()


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_info_says_the_version_of_the_change_log(client: httpx2.Client) -> None:
    assert client.get("/info").json()["version"] == __version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == __version__


def test_a_version_is_written_nowhere_else_in_what_is_built() -> None:
    for name in ("Dockerfile", "docker-compose.yml", "Makefile"):
        assert __version__ not in (ROOT / name).read_text()


def test_an_action_is_pinned_by_its_commit(text: str) -> None:
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_a_workflow_calls_targets_that_there_are(text: str) -> None:
    called = set(re.findall(r"\bmake (?:--silent )?([\w-]+)", text))
    assert "check" in called
    assert called <= set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    marks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    names = {mark.partition(":")[0] for mark in marks["markers"]}
    assert set(re.findall(r"make test WHAT=(\w+)", text)) <= names


def test_a_workflow_may_read_and_no_more_unless_it_publishes(text: str) -> None:
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120
        assert name == "publish" or "permissions" not in job
    kept = [
        one["with"]["persist-credentials"] for one in steps(workflow) if "checkout@" in str(one)
    ]
    assert kept
    assert not any(kept)


def test_only_a_tag_that_passed_the_tests_publishes() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        events = workflow[True]  # YAML 1.1 reads `on` so
        if PUBLISHES.search(path.read_text()):
            assert set(events) == {"push"}
            assert set(events["push"]) == {"tags"}
            assert workflow["jobs"]["publish"]["needs"] == "test"
            tested = [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
            assert 'test "$GITHUB_REF_NAME" = "v$(make --silent version)"' in tested


def test_every_stage_is_built_on_the_one_base_and_the_image_says_what_it_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+) AS \S+$", dockerfile, re.MULTILINE)
    assert set(bases) == {"${BASE}"}  # a digest in BASE then pins all of it
    assert len(bases) == len(re.findall(r"^FROM ", dockerfile, re.MULTILINE))
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="(.*)"', dockerfile))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(labels) == {"title", "description", "licenses", "base.name"}
    assert (labels["title"], labels["licenses"]) == (project["name"], project["license"])
    for text in (MAKEFILE, (ROOT / ".github/workflows/release.yml").read_text()):
        given = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", text))
        assert given >= {"version", "revision"}


def test_licences_are_of_the_packages_that_are_locked() -> None:
    rows = re.findall(r"^\| (\S+) +\| (\S+) +\| (.+?) +\|$", licences(), re.MULTILINE)[1:]
    listed = {canonical(name): version for name, version, _ in rows}
    lock = (ROOT / "requirements" / "base.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.MULTILINE))
    # What has a marker is for another system, or of another version there.
    assert locked.items() <= listed.items()
    assert all(re.search(rf"^{name}==", lock, re.MULTILINE) for name in listed)
    assert not any("UNKNOWN" in licence for *_, licence in rows)


@pytest.mark.thorough
def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    program = shutil.which("hadolint") or Path(sys.executable).with_name("hadolint")
    if not Path(program).exists():
        pytest.skip("hadolint is not installed: `make test-all` installs it")
    done = subprocess.run(
        [program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def licences() -> str:
    return (ROOT / "docs" / "licences.md").read_text()
