from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from tests.conftest import IMAGES, LiveServer

BAD = "The file is not a JPEG, PNG, WebP, GIF or BMP image."
runner = CliRunner()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three images, and two files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number, name in enumerate(("cat.jpg", "none", "coffee.jpg", "empty", "rocket.jpg")):
        path = folder / f"{number}.jpg"
        path.write_bytes(
            (IMAGES / name).read_bytes() if name.endswith("jpg") else b"none"[: 4 * (number == 1)]
        )
        paths.append(str(path))
    return paths


def run(*arguments: str, code: int) -> str:
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.stderr


def classify(*arguments: str) -> tuple[list[dict[str, Any]], str]:
    result = runner.invoke(app, ["classify", *arguments, "--format", "json"])
    assert result.exit_code == 1, result.output
    return json.loads(result.stdout), result.stderr


def test_both_ways_give_the_same_classes_in_the_order_given(
    photos: list[str], live_server: LiveServer
) -> None:
    options = (*photos, "--top-k", "3", "--size", "192")
    here, said_here = classify(*options)
    there, said_there = classify(*options, "--server", live_server.url)
    assert [one["path"] for one in here] == photos[::2]
    assert here[0]["predictions"][0]["wnid"].startswith("n0212")
    for one, other in zip(here, there, strict=True):
        scores = [[p.pop("score") for p in each["predictions"]] for each in (one, other)]
        assert np.allclose(scores[0], scores[1], atol=1e-4)
        assert one == other
    assert said_here == said_there
    assert said_here.splitlines() == [
        "2 of 5 without an answer:",
        f"  {photos[1]}: {BAD}",
        f"  {photos[3]}: The image has no bytes.",
    ]


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        (["--normalize"], ["embeddings"]),
        (
            ["--layer=5,13", "--pooling=none", "--dtype=float16", "--output-stride=16"],
            ["Conv2d_5_pointwise", "Conv2d_13_pointwise"],
        ),
    ],
)
def test_both_ways_give_the_same_embeddings(
    photos: list[str],
    live_server: LiveServer,
    tmp_path: Path,
    options: list[str],
    layers: list[str],
) -> None:
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    run("embed", *photos, "-o", str(here), *options, code=1)
    run("embed", *photos, "-o", str(there), *options, "--server", live_server.url, code=1)
    with np.load(here) as one, np.load(there) as other:
        assert one["paths"].tolist() == other["paths"].tolist() == photos[::2]
        assert one.files == other.files == ["paths", *layers]
        for name in layers:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_allclose(one[name], other[name], atol=1e-4, rtol=1e-3)


def test_without_any_answer_the_code_is_three_and_there_is_no_file(
    photos: list[str], live_server: LiveServer, tmp_path: Path
) -> None:
    output = tmp_path / "x.npz"
    options = ("--server", live_server.url, "-o", str(output))
    said = run("embed", photos[1], *options, code=3)
    assert BAD in said
    assert not output.exists()


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    assert run("classify", "x.jpg", "--model", str(tmp_path), code=3).count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify"],
        ["classify", "x", "--top-k", "0"],
        ["classify", "x", "--size", "31"],
        ["classify", "x", "--server", "localhost:8000"],
        ["classify", "x", "--server", "http://localhost:eighty"],
        ["classify", "x", "--connections", "4"],
        ["classify", "x", "--server", "http://localhost", "--api-key-file", "/dev/null"],
        ["embed", "x"],
        ["embed", "x", "-o", "x.npy"],
        ["embed", "x", "-o", "/nowhere/x.npz"],
        ["embed", "x", "-o", "x.npz", "--layer", "14"],
    ],
)
def test_wrong_options_are_refused_before_anything_is_done(arguments: list[str]) -> None:
    run(*arguments, code=2)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    # A shell's background job ignores SIGINT, and so would what it starts.
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "app", *arguments],  # noqa: S607  # wherever env is
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.thorough
def test_ctrl_c_leaves_what_was_answered(photos: list[str]) -> None:
    with start("classify", "-", "--null", "--format", "jsonl") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(os.fsencode(photos[0]) + b"\0" + os.fsencode(photos[1]) + b"\0")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["path"] == photos[0]
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(timeout=30) == 130
    assert said.endswith("Interrupted; what was answered is written.\n")
    assert "Traceback" not in said


@pytest.mark.thorough
def test_a_reader_that_leaves_ends_it_quietly(photos: list[str]) -> None:
    with start("classify", *photos * 5, "--format", "csv") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141
