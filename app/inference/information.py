"""Describes what is served, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from app import __version__
from app.inference.lifecycle import Lifecycle
from app.inference.options import MAX_FILES
from model.engines.base import Engine

_LIMITS: Final = (
    "max_body_mib",
    "max_batch_body_mib",
    "max_output_mib",
    "max_pixels_mp",
    "max_side",
    "request_timeout_s",
    "body_timeout_s",
    "queue_ms",
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One served model; `digest` is the sha256 of its weights."""

    name: str
    digest: str
    engine: str
    device: str
    input_size: int | tuple[int, int] = field(
        metadata={"description": "Side of the square that it sees, or height and width, in pixels."}
    )
    num_labels: int
    num_features: int


@dataclass(frozen=True, slots=True)
class InfoResponse:
    """What is served, and within which limits."""

    name: str
    version: str
    models: list[ModelInfo]
    limits: dict[str, Any]
    jpeg_scaled_decode: bool
    threads: int
    streams: int
    max_batch_size: int
    queue_capacity: float
    images_per_s: float


def describe(lifecycle: Lifecycle) -> InfoResponse:
    """Describe what is loaded.

    Raises:
        NotReadyError: nothing is yet.
    """
    service = lifecycle.service
    settings = lifecycle.settings
    limits = {name: getattr(settings, name) for name in _LIMITS}
    return InfoResponse(
        name="mobilenet-serve",
        version=__version__,
        models=[_describe_model(engine) for engine in service.engines.values()],
        limits={"max_files": MAX_FILES, **limits},
        jpeg_scaled_decode=settings.jpeg_scaled_decode,
        threads=lifecycle.threads,
        streams=service.batcher.streams,
        max_batch_size=service.batcher.max_batch_size,
        queue_capacity=service.batcher.admission.capacity,
        images_per_s=service.batcher.admission.images_per_s,
    )


def _describe_model(engine: Engine) -> ModelInfo:
    checkpoint = engine.checkpoint
    height, width = checkpoint.preprocessing.input_size
    return ModelInfo(
        name=checkpoint.name,
        digest=checkpoint.digest,
        engine=engine.name,
        device=engine.device,
        input_size=height if height == width else (height, width),
        num_labels=checkpoint.config.num_labels,
        num_features=checkpoint.config.num_features,
    )
