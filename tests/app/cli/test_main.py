from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import __version__
from app.cli import serve_flags as flags
from app.cli.main import app
from app.settings import Settings
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from tests.model.sources.frozen_graph.graphs import create_graph_def, create_released, find_node

runner = CliRunner()


def test_version_is_shown() -> None:
    assert runner.invoke(app, ["--version"]).output.strip() == __version__


def test_help_names_the_flag_and_the_variable_of_every_setting() -> None:
    output = runner.invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    for name in Settings.model_fields:
        assert re.search(rf"--{name.replace('_', '-')}\s", output)
        assert f"MOBILENET_{name.upper()}" in output


def test_the_documented_settings_are_those_of_the_class() -> None:
    table = runner.invoke(app, ["settings"]).output
    assert table.count("\n| `MOBILENET_") == len(Settings.model_fields)
    assert (Path(__file__).parents[3] / "docs" / "settings.md").read_text().endswith(table)


def test_convert_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "model.pb"
    source.write_bytes(b"not a graph")
    result = runner.invoke(app, ["convert", str(source), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "model.pb" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    "RELEASED_CHECKPOINTS" not in os.environ,
    reason="needs mobilenet_v1_1.0_224_frozen.pb: set RELEASED_CHECKPOINTS to its directory",
)
def test_convert_writes_the_packaged_checkpoint(tmp_path: Path) -> None:
    source = Path(os.environ["RELEASED_CHECKPOINTS"]) / "mobilenet_v1_1.0_224_frozen.pb"
    result = runner.invoke(app, ["convert", str(source), str(tmp_path)])
    assert result.exit_code == 0
    sums = "SHA256SUMS"
    assert (tmp_path / sums).read_text() == (DEFAULT_DIRECTORY / sums).read_text()


def test_convert_asks_for_the_size_that_a_file_does_not_tell(tmp_path: Path) -> None:
    graph = create_graph_def(create_released())
    graph.node.remove(find_node(graph, "pool"))
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    command = ["convert", str(tmp_path / "model.pb"), str(tmp_path / "out")]
    refused = runner.invoke(app, command)
    assert refused.exit_code == 1
    assert "give --image-size" in refused.output
    assert runner.invoke(app, [*command, "--image-size", "31"]).exit_code == 2
    assert runner.invoke(app, [*command, "--image-size", "160"]).exit_code == 0
    assert load_checkpoint(tmp_path / "out").preprocessing.input_size == (160, 160)


@pytest.mark.parametrize("target", ["a file", "/proc/nowhere"])
def test_convert_says_in_one_line_where_it_cannot_write(tmp_path: Path, target: str) -> None:
    directory = tmp_path / target
    if not target.startswith("/"):
        directory.write_bytes(b"")
    result = runner.invoke(app, ["convert", str(DEFAULT_DIRECTORY), str(directory)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {directory}")
    assert result.output.count("\n") == 1


def test_convert_refuses_a_size_that_the_source_contradicts(tmp_path: Path) -> None:
    arguments = ["convert", str(DEFAULT_DIRECTORY), str(tmp_path / "out"), "--image-size", "160"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert "declares input size 224, but --image-size is 160" in result.output
    assert not (tmp_path / "out").exists()


def test_every_setting_has_its_group_in_the_help_of_serve() -> None:
    grouped = [name for names in flags._PANELS.values() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)


def test_help_loads_nothing_that_only_answering_needs() -> None:
    heavy = ["torch", "onnxruntime", "onnx", "fastapi", "uvicorn", "httpx2"]
    program = f"import app.cli.main, sys; print([one for one in {heavy} if one in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mobilenet-serve ", {"serve", "classify", "embed", "convert", "info", "labels"}),
        ("mobilenet-serve classify --", {"--format", "--server", "--api-key-file", "--null"}),
        ("mobilenet-serve serve --max-b", {"--max-batch-size", "--max-body-mib"}),
        ("mobilenet-serve classify --format ", {"table", "json", "jsonl", "csv"}),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    env = {
        "_MOBILENET_SERVE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    result = runner.invoke(app, [], env=env, prog_name="mobilenet-serve")
    assert expected <= set(result.output.split())


def test_labels_are_found_by_text_wordnet_id_and_class_id() -> None:
    tabby = " 282  n02123045  tabby, tabby cat\n"
    for search in ("Tabby", "n02123045", "282"):
        assert runner.invoke(app, ["labels", search]).output == tabby
    (found,) = json.loads(runner.invoke(app, ["labels", "tabby", "--json"]).output)
    assert found == {"class_id": 282, "wnid": "n02123045", "label": "tabby, tabby cat"}
    assert runner.invoke(app, ["labels"]).output.count("\n") == 1001
    assert runner.invoke(app, ["labels", "no such thing"]).exit_code == 1


def test_info_tells_what_serve_would_choose() -> None:
    env = {
        "MOBILENET_MAX_BATCH_SIZE": "3",
        "MOBILENET_STREAMS": "2",
        "MOBILENET_THREADS": "2",
    }
    described = json.loads(runner.invoke(app, ["info", "--json"], env=env).output)
    assert described["models"][0]["digest"] == load_checkpoint(DEFAULT_DIRECTORY).digest
    assert (described["max_batch_size"], described["streams"], described["threads"]) == (3, 2, 2)


@pytest.mark.thorough
def test_serve_tells_a_terminal_where_it_is_once_it_is_ready() -> None:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        read = b""
        try:
            while not (b"/classify" in read and b"Ready after" in read):
                read += os.read(here, 65536)
        finally:
            process.terminate()
        with os.fdopen(here, "rb") as terminal, suppress(OSError):  # of its end
            terminal.read()
    shown = read.decode(errors="replace")
    address = re.search(r"running on (http://127.0.0.1:\d+)", shown)
    assert address
    for text in (
        "mobilenet_v1_1.0_224",
        "1001 classes",
        f"{address[1]}/docs",
        f"{address[1]}/ ",
    ):
        assert text in shown
    words = " ".join(re.sub(r"\x1b\[[\d;]*m", "", shown).split())
    assert re.search(r" engine onnx on cpu, \d+ threads? ", words)
    assert re.search(r" batches up to \d+ images?, \d+ at once ", words)
