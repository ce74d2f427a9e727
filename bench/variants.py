"""Throughput of the real service against the 16 architectures, and what a photo takes of a core.

Speed does not depend on what was learned, so the weights are random.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from bench.documents import save_plot, write_section
from bench.in_process import InProcess
from bench.load import LoadGenerator
from bench.models import CLASSES
from bench.server import ServerProcess
from model.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from model.images.preprocessor_config import Preprocessing
from model.network.config import MobileNetV1Config
from tests.model.twins import create_weights

_DEPTH_MULTIPLIERS = (1.0, 0.75, 0.5, 0.25)
_SIDES = (224, 192, 160, 128)
_CONNECTIONS = 16


@dataclass(frozen=True)
class Speeds:
    """Images a second on all cores: the engine alone, with decoding before it, and served."""

    engine: float
    in_process: float
    service: float


class Variants:
    """One run's figures by model, one entry a round."""

    def __init__(self) -> None:
        self.multiply_adds: dict[str, int] = {}
        self.speeds: dict[str, list[Speeds]] = defaultdict(list)
        self.cores = 0

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Take every figure of every model once a round, from one server of all models."""
        with tempfile.TemporaryDirectory() as folder, LoadGenerator(photos) as generator:
            directories = [
                _save_random(Path(folder), depth_multiplier, side)
                for depth_multiplier in _DEPTH_MULTIPLIERS
                for side in _SIDES
            ]
            with ServerProcess(models=",".join(map(str, directories))) as server:
                for _ in range(rounds):
                    for directory in directories:
                        # Made and forgotten: 16 more engines would fill the memory.
                        limit = self._load(directory)
                        speeds = Speeds(
                            limit.computed_per_s(photos, seconds),
                            limit.images_per_s(photos, seconds),
                            generator.run(
                                server.url,
                                "raw",
                                _CONNECTIONS,
                                seconds,
                                f"/classify?model={directory.name}",
                            ).images_per_s,
                        )
                        self.speeds[directory.name].append(speeds)

    def write(self) -> None:
        """Replace the table of docs/performance.md, and draw it."""
        header = (
            "| model | multiply-adds | engine alone, images/s | in process | service "
            "| of in process | of engine alone |"
        )
        lines = [header, "|---|--:|--:|--:|--:|--:|--:|"]
        for name in self._names():
            rounds = self.speeds[name]
            engine, in_process, service = self._medians(name)
            of_in_process, of_engine = (
                statistics.median(values)
                for values in (
                    [one.service / one.in_process for one in rounds],
                    [one.service / one.engine for one in rounds],
                )
            )
            lines.append(
                f"| {name} | {self.multiply_adds[name] / 1e6:.0f} M | {engine:.0f} "
                f"| {in_process:.0f} | {service:.0f} | {of_in_process:.2f} | {of_engine:.2f} |"
            )
        text = "\n".join(lines)
        print(text)
        write_section("performance.md", "variants", text)
        self._draw()

    def _load(self, directory: Path) -> InProcess:
        checkpoint = load_checkpoint(directory)
        own_size = checkpoint.preprocessing.input_size
        self.multiply_adds[directory.name] = checkpoint.config.multiply_adds(*own_size)
        limit = InProcess(checkpoint)
        self.cores = limit.threads
        return limit

    def _names(self) -> list[str]:
        return sorted(self.speeds, key=lambda name: -self.multiply_adds[name])

    def _medians(self, name: str) -> tuple[float, float, float]:
        rounds = self.speeds[name]
        return (
            statistics.median(one.engine for one in rounds),
            statistics.median(one.in_process for one in rounds),
            statistics.median(one.service for one in rounds),
        )

    def _draw(self) -> None:
        names = self._names()
        places = np.arange(len(names))
        engine, in_process, service = np.array([self._medians(name) for name in names]).T
        figure, (above, below) = plt.subplots(2, 1, figsize=(9, 8), sharex=True)
        above.plot(places, in_process, "o--", color="grey", label="in process, no HTTP")
        above.plot(places, service, "o-", label=f"service, {_CONNECTIONS} connections")
        above.set_ylabel("images a second, all cores")
        above.set_title("The service against the 16 architectures")
        bottom = np.zeros(len(names))
        for label, total in (
            ("engine", engine),
            ("decoding", in_process),
            ("HTTP, queue and load generator", service),
        ):
            milliseconds = 1000 * self.cores / total
            below.bar(places, milliseconds - bottom, bottom=bottom, width=0.7, label=label)
            bottom = milliseconds
        below.set_ylabel("milliseconds of a core for an image")
        below.set_xticks(places, names, rotation=45, ha="right")
        below.set_xlabel("depth multiplier and input side, from most multiply-adds to least")
        for axes in (above, below):
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            axes.legend()
        save_plot(figure, "scale_variants.svg")


def _save_random(folder: Path, depth_multiplier: float, side: int) -> Path:
    config = MobileNetV1Config.model_validate(
        {"depth_multiplier": depth_multiplier, "image_size": side, "num_labels": CLASSES}
    )
    directory = folder / f"{depth_multiplier}_{side}"
    save_checkpoint(directory, config, Preprocessing().with_side(side), create_weights(config))
    return directory
