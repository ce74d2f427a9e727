"""Starts that must not succeed: each ends soon, with one line that says why, and never ready."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
import safetensors.numpy

from model.checkpoints.checkpoint import DEFAULT_DIRECTORY
from model.checkpoints.labels import IMAGENET_PATH
from tests.app.server.test_uvicorn_server import Process, start
from tests.corpus.row import CAT

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

PROOF = Path(tempfile.gettempdir()) / "pickle-was-executed"
WEIGHTS, SUMS, CONFIG = "model.safetensors", "SHA256SUMS", "config.json"
_START_S, _SETTING_S, _PORT_S = 5.0, 3.0, 2.0


def flip_a_bit(directory: Path) -> None:
    data = bytearray((directory / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / WEIGHTS).write_bytes(data)


def flip_in_header(directory: Path) -> None:
    (directory / SUMS).unlink()
    data = bytearray((directory / WEIGHTS).read_bytes())
    data[20] ^= 0x80
    (directory / WEIGHTS).write_bytes(data)


def truncate(directory: Path) -> None:
    os.truncate(directory / WEIGHTS, 1_000_000)


def truncate_without_sums(directory: Path) -> None:
    (directory / SUMS).unlink()
    truncate(directory)


def empty(directory: Path) -> None:
    (directory / SUMS).unlink()
    (directory / WEIGHTS).write_bytes(b"")


def remove(directory: Path) -> None:
    (directory / WEIGHTS).unlink()


def make_unreadable(directory: Path) -> None:
    """A directory in its place: no permission keeps root from reading."""
    (directory / SUMS).unlink()
    (directory / WEIGHTS).unlink()
    (directory / WEIGHTS).mkdir()


def change(directory: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    (directory / SUMS).unlink()
    tensors = safetensors.numpy.load_file(directory / WEIGHTS)
    edit(tensors)
    safetensors.numpy.save_file(tensors, directory / WEIGHTS)


def reshape(directory: Path) -> None:
    change(directory, lambda all_: all_.update({"classifier.bias": np.zeros(7, np.float32)}))


def make_infinite(directory: Path) -> None:
    change(directory, lambda all_: all_["classifier.bias"].fill(np.inf))


def make_huge(directory: Path) -> None:
    """Every value is a float32, but no answer is."""
    change(directory, lambda all_: all_["classifier.weight"].fill(3e38))


def configure(directory: Path, **changes: object) -> None:
    (directory / SUMS).unlink()
    config = json.loads((directory / CONFIG).read_text()) | changes
    (directory / CONFIG).write_text(json.dumps(config))


def name_another_architecture(directory: Path) -> None:
    configure(directory, model_type="resnet", architectures=["ResNetModel"])


def narrow(directory: Path) -> None:
    configure(directory, depth_multiplier=0.5)


def forget_labels(directory: Path) -> None:
    config = json.loads((directory / CONFIG).read_text())
    configure(directory, id2label={str(n): config["id2label"][str(n)] for n in range(999)})


def remove_config(directory: Path) -> None:
    (directory / CONFIG).unlink()


class Trap:
    """Whoever unpickles it creates a file."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {PROOF}",)


def pickle_in_place(directory: Path) -> None:
    (directory / SUMS).unlink()
    (directory / WEIGHTS).write_bytes(pickle.dumps(Trap()))


def pickle_instead(directory: Path) -> None:
    (directory / SUMS).unlink()
    (directory / WEIGHTS).rename(directory / "pytorch_model.bin")
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


def refused(process: Process, within_s: float, since: float) -> str:
    """See that a start ended as it must; the one line that says why."""
    code = process.end()
    took_s = time.monotonic() - since
    output = "".join(process.lines)
    assert code not in {0, -9}
    assert took_s <= within_s
    assert "Traceback" not in output
    assert "Ready after" not in output
    reasons = [line for line in process.lines if '"level": "info"' not in line]
    assert len(reasons) == 1, reasons
    return reasons[0]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flip_a_bit, "sha256"),
        (flip_in_header, "not a safetensors file"),
        (truncate, "sha256"),
        (truncate_without_sums, "not a safetensors file"),
        (empty, "not a safetensors file"),
        (remove, "is missing"),
        (make_unreadable, "Is a directory"),
        (reshape, "classifier.bias has shape (7,)"),
        (make_infinite, "not finite"),
        (make_huge, "self-test"),
        (name_another_architecture, "model_type"),
        (narrow, "has shape"),
        (forget_labels, "shape"),
        (remove_config, "config.json"),
        (pickle_in_place, "not a safetensors file"),
        (pickle_instead, "pickle"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_checkpoint_is_never_served(
    tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    copy = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "copy")
    damage(copy)
    PROOF.unlink(missing_ok=True)
    since = time.monotonic()
    with start("--models", str(copy)) as process:
        line = refused(process, _START_S, since)
    assert why in line
    assert "copy" in line
    assert not PROOF.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0x50"),
        ("PORT", "-1"),
        ("PORT", "99999"),
        ("THREADS", "0"),
        ("THREADS", "1e9"),
        ("MAX_BATCH_SIZE", "-1"),
        ("MAX_BATCH_SIZE", "abc"),
        ("QUEUE_MS", "0"),
        ("REQUEST_TIMEOUT_S", "1e300"),
        ("MAX_BODY_MIB", "-0.5"),
        ("MAX_PIXELS_MP", "nan"),
        ("MAX_SIDE", "99999999999999999999"),
        ("DRAIN_S", "soon"),
        ("SHUTDOWN_TIMEOUT_S", "0"),
        ("LOG_LEVEL", "loud"),
        ("ENGINE", "tpu"),
        ("MODELS", "no/such@"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name: str, value: str) -> None:
    since = time.monotonic()
    flags = ["--port", value] if name == "PORT" else []  # which the helper has given already
    with start(*flags, **{f"MOBILENET_{name}": value}) as process:
        line = refused(process, _SETTING_S, since)
    assert name in line or value in line


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_labels_that_are_missing_or_too_few_are_never_served(tmp_path: Path, damage: str) -> None:
    table = tmp_path / "labels.tsv"
    if damage == "short":
        rows = IMAGENET_PATH.read_text(encoding="utf-8").splitlines(keepends=True)
        table.write_text("".join(rows[:1000]), encoding="utf-8")
    program = f"""
import model.checkpoints.labels
from pathlib import Path
model.checkpoints.labels.load_imagenet_labels.__wrapped__.__defaults__ = (Path({str(table)!r}),)
from app.cli.main import main
main()
"""
    since = time.monotonic()
    with start(program=program) as process:
        assert "labels.tsv" in refused(process, _START_S, since)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        since = time.monotonic()
        with start("--port", str(port)) as process:
            assert f"'127.0.0.1', {port}" in refused(process, _PORT_S, since)


def test_the_first_request_is_nearly_as_fast_as_those_that_follow() -> None:
    ratios = []
    for _ in range(5):
        with start() as process, httpx2.Client(base_url=process.ready()) as client:
            client.get("/livez")
            request = client.build_request("POST", "/classify", files={"file": CAT.read_bytes()})
            request.read()  # so that the client's own first time does not count
            times = []
            for _ in range(51):
                since = time.perf_counter()
                answer = client.send(request)
                times.append(time.perf_counter() - since)
                assert answer.status_code == 200
            ratios.append(times[0] / statistics.median(times[1:]))
    print("first over median:", [round(ratio, 2) for ratio in ratios])  # noqa: T201  # the figure
    # Something left for the first request would be there every time; a neighbour's load is not.
    assert min(ratios) <= 1.5
