"""The checkpoints that Google released, for tests on a machine that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ORIGINS = {
    ".pb": "its archive of TF-Slim's page, "
    "github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet_v1.md",
    ".tflite": "github.com/google-coral/test_data",
}


def released(name: str) -> Path:
    """Find a released file in the folder that RELEASED_CHECKPOINTS names, or skip the test."""
    path = Path(os.environ.get("RELEASED_CHECKPOINTS", "")) / name
    if "RELEASED_CHECKPOINTS" not in os.environ or not path.is_file():
        pytest.skip(
            f"needs {name}: download it from {_ORIGINS[path.suffix]}, and set "
            "RELEASED_CHECKPOINTS to its folder"
        )
    return path
