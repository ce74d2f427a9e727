"""Measure the speed of every MobileNet V1 on one core, and draw accuracy against it.

Writes the table of docs/models.md between its marks, and docs/models.svg. Published figures are
read from released.csv, whose source is TF-Slim's research/slim/nets/mobilenet_v1.md. Speed does not
depend on what was learned, so the weights are random.

Run it with `make bench-models`, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from bench.documents import save_plot, write_section
from model.engines import load_engine
from model.engines.base import Engine
from model.network.config import MobileNetV1Config
from tests.model.quantized_twins import create_quantization
from tests.model.twins import create_checkpoint

RELEASED = Path(__file__).parent / "released.csv"
CLASSES = 1001


@dataclass
class Released:
    """One architecture: what was published, and what is measured here."""

    depth_multiplier: float
    side: int
    million_multiply_adds: int
    million_parameters: float
    top1: float
    top5: float
    quantized_top1: float
    quantized_top5: float
    images_per_s: float = 0.0
    relative: float = 0.0
    quantized_images_per_s: float = 0.0
    quantized_relative: float = 0.0

    @property
    def name(self) -> str:
        """As in Google's file names."""
        return f"{self.depth_multiplier}_{self.side}"


def read_released() -> list[Released]:
    """The 16 architectures, the largest first."""
    with RELEASED.open(encoding="utf-8", newline="") as file:
        return [
            Released(
                depth_multiplier=float(row["depth_multiplier"]),
                side=int(row["side"]),
                million_multiply_adds=int(row["million_multiply_adds"]),
                million_parameters=float(row["million_parameters"]),
                top1=float(row["top1"]),
                top5=float(row["top5"]),
                quantized_top1=float(row["quantized_top1"]),
                quantized_top5=float(row["quantized_top5"]),
            )
            for row in csv.DictReader(file)
        ]


def create_engine(depth_multiplier: float, *, quantized: bool) -> Engine:
    """The default engine on one thread, with random weights that keep activations alive."""
    config = MobileNetV1Config.model_validate(
        {"depth_multiplier": depth_multiplier, "num_labels": CLASSES}
    )
    checkpoint = create_checkpoint(config)
    if quantized:
        checkpoint = replace(checkpoint, quantization=create_quantization(config))
    return load_engine(checkpoint, name="onnx", threads=1)


def measure(models: list[Released], rounds: int, seconds: float) -> None:
    """Time them in turns, so that a slow moment of the machine slows all of them."""
    multipliers = {model.depth_multiplier for model in models}
    engines = {
        (multiplier, quantized): create_engine(multiplier, quantized=quantized)
        for multiplier in multipliers
        for quantized in (False, True)
    }
    pixels = {
        side: np.random.default_rng(1).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        for side in {model.side for model in models}
    }
    speeds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for model in models:
            for quantized in (False, True):
                engine = engines[model.depth_multiplier, quantized]
                speed = _images_per_s(engine, pixels[model.side], seconds)
                speeds[model.name, quantized].append(speed)
    for model in models:
        model.images_per_s = statistics.median(speeds[model.name, False])
        model.quantized_images_per_s = statistics.median(speeds[model.name, True])
        model.relative, model.quantized_relative = (
            statistics.median(
                speed / of_reference
                for speed, of_reference in zip(
                    speeds[model.name, quantized], speeds[models[0].name, False], strict=True
                )
            )
            for quantized in (False, True)
        )


def _images_per_s(engine: Engine, image: NDArray[np.uint8], seconds: float) -> float:
    engine.run(image)
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        engine.run(image)
        count += 1
    return count / elapsed


def write_table(models: list[Released]) -> None:
    """Replace what stands between the marks of docs/models.md."""
    header = "| model | multiply-adds | parameters | float | images/s | relative"
    lines = [
        f"{header} | quantized | images/s | relative |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| mobilenet_v1_{m.name} | {m.million_multiply_adds} M | {m.million_parameters} M "
        f"| {m.top1} / {m.top5} | {m.images_per_s:.0f} | {m.relative:.2f} "
        f"| {m.quantized_top1} / {m.quantized_top5} | {m.quantized_images_per_s:.0f} "
        f"| {m.quantized_relative:.2f} |"
        for m in models
    ]
    write_section("models.md", "speed", "\n".join(lines))


def draw(models: list[Released]) -> None:
    """Accuracy against speed, one line a depth multiplier."""
    figure, axes = plt.subplots(figsize=(8, 5))
    for multiplier in sorted({model.depth_multiplier for model in models}, reverse=True):
        line = [model for model in models if model.depth_multiplier == multiplier]
        speeds = [model.images_per_s for model in line]
        (drawn,) = axes.plot(speeds, [m.top1 for m in line], "o-", label=f"{multiplier} float")
        colour = drawn.get_color()
        quantized = [m.quantized_top1 for m in line]
        axes.plot(
            [m.quantized_images_per_s for m in line],
            quantized,
            "x--",
            color=colour,
            alpha=0.6,
            label=f"{multiplier} quantized",
        )
        for model in line:
            axes.annotate(
                str(model.side),
                (model.images_per_s, model.top1),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    axes.set_xticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1000", "2000"])
    axes.minorticks_off()
    axes.set_xlabel("images a second on one core (ONNX Runtime)")
    axes.set_ylabel("top-1 accuracy as published, %")
    axes.set_title("MobileNet V1: depth multiplier and input side")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    save_plot(figure, "models.svg")


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each model in each round")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    models = read_released()
    measure(models, arguments.rounds, arguments.seconds)
    for model in models:
        print(
            f"{model.name:>9} {model.images_per_s:8.1f} images/s {model.relative:6.2f}, "
            f"quantized {model.quantized_images_per_s:8.1f} {model.quantized_relative:6.2f}"
        )
    write_table(models)
    draw(models)


if __name__ == "__main__":
    main()
