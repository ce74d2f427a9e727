"""Loads engines and the decoder as the settings say, for the service and the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.inference.decoding import ImageDecoder
from app.settings import Settings
from model.engines import load_engine
from model.engines.base import Engine
from model.engines.cores import count_cores
from model.engines.self_test import check_engine
from model.images.budget import PIXEL_BYTES
from model.images.decoder import DecodeLimits
from model.sources.load import load_model

_MEGA: Final = 1_000_000
_BATCH_SIZES: Final = {"cpu": 2, "cuda": 64}
"""On a CPU a batch of 4 gives 1 to 2 % more images a second than one of 2, and takes 90 MB more;
with maps asked for in between, memory then still grows after 10,000 requests.
"""


def count_threads(settings: Settings) -> int:
    """How many threads may compute."""
    return count_cores() if settings.threads == "auto" else settings.threads


def choose_batch_size(settings: Settings, engine: Engine) -> int:
    """How many images a batch of the engine may have."""
    chosen = settings.max_batch_size
    return _BATCH_SIZES[engine.device] if chosen == "auto" else chosen


def load_engines(sources: Iterable[tuple[str, str]], settings: Settings) -> list[Engine]:
    """Load and check the engines of models, given as (name, source).

    Raises:
        ModelError: a checkpoint or an engine cannot be used.
    """
    engines = []
    for name, source in sources:
        engine = load_engine(
            load_model(source, name),
            name=settings.engine,
            device=settings.device,
            threads=count_threads(settings),
        )
        check_engine(engine)
        engines.append(engine)
    return engines


def create_decoder(settings: Settings) -> ImageDecoder:
    """Create a decoder that has memory for one image of the most pixels at a time."""
    max_pixels = int(settings.max_pixels_mp * _MEGA)
    limits = DecodeLimits(max_pixels, settings.max_side, PIXEL_BYTES * max_pixels)
    return ImageDecoder(limits, scaled_jpegs=settings.jpeg_scaled_decode)
