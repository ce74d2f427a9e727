from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from model.checkpoints.checkpoint import (
    DEFAULT_DIRECTORY,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from model.engines import load_engine
from model.images.decoder import DecodeLimits, Decoder
from tests.model.twins import ENGINES, create_weights, tiny_config

if TYPE_CHECKING:
    from model.engines.base import Engine

_IMAGES = Path(__file__).parents[1] / "images"


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(_IMAGES.glob("*.jpg"))]


@pytest.fixture(scope="session")
def default_checkpoint() -> Checkpoint:
    return load_checkpoint(DEFAULT_DIRECTORY)


@pytest.fixture(scope="session", params=ENGINES)
def default_engine(request: pytest.FixtureRequest, default_checkpoint: Checkpoint) -> Engine:
    return load_engine(default_checkpoint, name=request.param, device="cpu")


@pytest.fixture
def tiny_directory(tmp_path: Path) -> Path:
    """A sound checkpoint of a few kilobytes."""
    from model.images.preprocessor_config import Preprocessing

    directory = tmp_path / "tiny"
    config = tiny_config()
    save_checkpoint(directory, config, Preprocessing(), create_weights(config))
    return directory


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(DecodeLimits())
