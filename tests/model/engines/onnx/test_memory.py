"""What happens to ONNX Runtime's memory: when there is none, and when there was much."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCARCE = """
import resource, sys
from pathlib import Path
import numpy as np
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine

def limit(mebibytes):
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = held + mebibytes * 2**20 if mebibytes else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

engine = load_engine(load_checkpoint(DEFAULT_DIRECTORY), name="onnx", threads=2)
many = np.zeros((64, 224, 224, 3), np.uint8)
expected = engine.run(many[:1]).logits
for work in WORK:
    limit(20)
    try:
        work(engine, many)
    except MemoryError as error:
        print("MemoryError")
    limit(0)
    assert np.array_equal(engine.run(many[:1]).logits, expected)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)


def test_a_batch_or_a_graph_that_gets_no_memory_is_a_memory_error() -> None:
    work = (
        "[lambda engine, many: engine.run(many), "
        "lambda engine, many: engine.run(many[:1], ['Conv2d_13_pointwise'])]"
    )
    done = run(SCARCE.replace("WORK", work))
    assert done.stdout.split() == ["MemoryError"] * 2
    assert not done.stderr  # where the log is, whose lines are the service's


MUCH = """
from pathlib import Path
import numpy as np
from app.inference.memory import tune_malloc, trim
from model.checkpoints.checkpoint import DEFAULT_DIRECTORY, load_checkpoint
from model.engines import load_engine

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024

tune_malloc()
engine = load_engine(load_checkpoint(DEFAULT_DIRECTORY), name="onnx", threads=2)
engine.run(np.zeros((1, 32, 32, 3), np.uint8), ["pooled"], output_stride=STRIDE)
trim()
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
engine.run(np.zeros((COUNT, SIDE, SIDE, 3), np.uint8), ["pooled"], output_stride=STRIDE)
print(status("VmHWM") - before)
trim()
print(status("VmRSS") - before)
"""


@pytest.mark.reliability
@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "side", "stride", "most_mib", "most_kept_mib"),
    [
        pytest.param(8, 224, 32, 120, 120, id="usual"),
        pytest.param(1, 512, 8, 80, 15, id="fine"),
    ],
)
def test_what_a_batch_takes_is_bounded_and_a_large_one_gives_it_back(
    count: int, side: int, stride: int, most_mib: int, most_kept_mib: int
) -> None:
    code = MUCH
    for name, value in (("COUNT", count), ("SIDE", side), ("STRIDE", stride)):
        code = code.replace(name, str(value))
    done = run(code)
    peak_mib, kept_mib = map(float, done.stdout.split())
    print(f"{peak_mib:.0f} MiB, of which {kept_mib:.0f} are kept")  # noqa: T201  # with -s
    assert peak_mib <= most_mib
    assert kept_mib <= most_kept_mib
