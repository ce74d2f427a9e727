from __future__ import annotations

from pathlib import Path

import pytest

from model.checkpoints.checkpoint import Checkpoint
from tests.model.sources.frozen_graph.graphs import create_released


@pytest.fixture(scope="package")
def narrow() -> Checkpoint:
    """Random weights at a quarter of the depth, with ImageNet's classes."""
    return create_released(0.25, 128)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "frozen.pb"
