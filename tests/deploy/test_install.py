"""`pip install -e '.[hub]'` in a clean environment: the command serves, and the extra is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from app import __version__
from rig.server import find_free_port, wait_until_ready

pytestmark = [pytest.mark.install, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "--editable", f"{ROOT}[hub]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_command_says_the_version_and_the_extra_is_installed(
    binaries: Path, tmp_path: Path
) -> None:
    for program, shown in (
        (("mobilenet-serve", "--version"), __version__),
        (("python", "-c", "import huggingface_hub; print('hub')"), "hub"),
    ):
        command = [binaries / program[0], *program[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == shown


def test_the_command_serves_from_anywhere(binaries: Path, tmp_path: Path, cat: bytes) -> None:
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [binaries / "mobilenet-serve", "serve", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until_ready(url, 60, process)
            answer = httpx2.post(f"{url}/classify", files={"file": cat}).json()
            page = httpx2.get(f"{url}/docs")
        finally:
            process.terminate()
    assert answer["predictions"][0]["label"] == "tabby, tabby cat"
    assert page.status_code == 200
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())
