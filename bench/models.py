"""Measures every MobileNet V1 on one core, and draws accuracy against speed.

Writes the table of docs/models.md, and docs/models.svg. Published figures are read from
released.csv, whose source is TF-Slim's research/slim/nets/mobilenet_v1.md. Speed does not depend on
what was learned, so the weights are random. Run it with `make bench WHAT=models`.
"""

from __future__ import annotations

import csv
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from pydantic import TypeAdapter

from bench.arguments import create_parser
from bench.documents import markdown_table, save_plot, write_section
from model.checkpoints.checkpoint import Checkpoint, expected_shapes
from model.engines import load_engine
from model.engines.base import Engine
from model.images.preprocessor_config import Preprocessing
from model.network.config import MobileNetV1Config
from model.network.quantization import (
    Quantization,
    QuantizationParameters,
    QuantizedLayer,
    kernel_shapes,
)

_RELEASED = Path(__file__).parent / "released.csv"
_CLASSES = 1001
_PIXELS = QuantizationParameters(1 / 128, 128)
_RELU6 = QuantizationParameters(6 / 255, 0)


@dataclass(frozen=True)
class Model:
    """One architecture as it was published; accuracies are in percent."""

    depth_multiplier: float
    side: int
    million_multiply_adds: int
    million_parameters: float
    top1: float
    top5: float
    quantized_top1: float
    quantized_top5: float


class Speeds:
    """Images a second of each model, float and quantized, one entry a round."""

    def __init__(self, reference: Model) -> None:
        self._reference = reference
        self._rounds: dict[tuple[Model, bool], list[float]] = defaultdict(list)

    def append(self, model: Model, images_per_s: float, *, quantized: bool) -> None:
        """Add one round's figure."""
        self._rounds[model, quantized].append(images_per_s)

    def median(self, model: Model, *, quantized: bool) -> float:
        """Return the median of the rounds."""
        return statistics.median(self._rounds[model, quantized])

    def relative(self, model: Model, *, quantized: bool) -> float:
        """Return the median ratio to the float reference, each of one round."""
        rounds = zip(
            self._rounds[model, quantized], self._rounds[self._reference, False], strict=True
        )
        return statistics.median(speed / reference for speed, reference in rounds)


def read_released() -> list[Model]:
    """Return the 16 architectures, the largest first."""
    with _RELEASED.open(encoding="utf-8", newline="") as file:
        return TypeAdapter(list[Model]).validate_python(list(csv.DictReader(file)))


def create_engine(depth_multiplier: float, *, quantized: bool) -> Engine:
    """Return the default engine on one thread, with random weights."""
    config = MobileNetV1Config.model_validate(
        {"depth_multiplier": depth_multiplier, "num_labels": _CLASSES}
    )
    rng = np.random.default_rng(0)
    weights = {  # positive: no variance may be negative, and no activation dies
        name: rng.uniform(0.1, 0.2, shape).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    quantization = create_quantization(config, rng) if quantized else None
    checkpoint = Checkpoint("random", config, Preprocessing(), weights, "", quantization)
    return load_engine(checkpoint, name="onnx", threads=1)


def create_quantization(config: MobileNetV1Config, rng: np.random.Generator) -> Quantization:
    """Return random 8-bit levels for every layer."""
    layers: dict[str, QuantizedLayer] = {}
    for number, (name, shape) in enumerate(kernel_shapes(config).items()):
        layers[name] = QuantizedLayer(
            rng.integers(0, 256, shape, dtype=np.uint8),
            np.array([1e-3], np.float32),
            128,
            rng.integers(0, 10_000, shape[0], dtype=np.int32),
            input=_RELU6 if number else _PIXELS,
            output=_RELU6,
        )
    return Quantization(_PIXELS, layers, _RELU6, half_up=True)


def measure(models: list[Model], rounds: int, seconds: float) -> Speeds:
    """Time the models in turns, so that a slow moment of the machine slows all of them."""
    engines = {
        (multiplier, quantized): create_engine(multiplier, quantized=quantized)
        for multiplier in {model.depth_multiplier for model in models}
        for quantized in (False, True)
    }
    pixels = {
        side: np.random.default_rng(1).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        for side in {model.side for model in models}
    }
    speeds = Speeds(models[0])
    for _ in range(rounds):
        for model in models:
            for quantized in (False, True):
                engine = engines[model.depth_multiplier, quantized]
                speed = _images_per_s(engine, pixels[model.side], seconds)
                speeds.append(model, speed, quantized=quantized)
    return speeds


def _images_per_s(engine: Engine, image: NDArray[np.uint8], seconds: float) -> float:
    engine.run(image)
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        engine.run(image)
        count += 1
    return count / elapsed


def table(models: list[Model], speeds: Speeds) -> str:
    """Return all figures in Markdown."""
    rows = []
    for model in models:
        float_, quantized = (
            (
                f"{speeds.median(model, quantized=q):.0f}",
                f"{speeds.relative(model, quantized=q):.2f}",
            )
            for q in (False, True)
        )
        rows.append(
            (
                f"mobilenet_v1_{model.depth_multiplier}_{model.side}",
                f"{model.million_multiply_adds} M",
                f"{model.million_parameters} M",
                f"{model.top1} / {model.top5}",
                *float_,
                f"{model.quantized_top1} / {model.quantized_top5}",
                *quantized,
            )
        )
    speed = "images/s", "relative"
    columns = "model", "multiply-adds", "parameters", "float", *speed, "quantized", *speed
    return markdown_table(columns, rows)


def draw(models: list[Model], speeds: Speeds) -> None:
    """Draw accuracy against speed, one line for each depth multiplier."""
    figure, axes = plt.subplots(figsize=(8, 5))
    for multiplier in sorted({model.depth_multiplier for model in models}, reverse=True):
        line = [model for model in models if model.depth_multiplier == multiplier]
        floats = [speeds.median(model, quantized=False) for model in line]
        quantized = [speeds.median(model, quantized=True) for model in line]
        (drawn,) = axes.plot(floats, [m.top1 for m in line], "o-", label=f"{multiplier} float")
        colour = drawn.get_color()
        label = f"{multiplier} quantized"
        top1 = [model.quantized_top1 for model in line]
        axes.plot(quantized, top1, "x--", color=colour, alpha=0.6, label=label)
        for model, speed in zip(line, floats, strict=True):
            axes.annotate(
                str(model.side),
                (speed, model.top1),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    ticks = [50, 100, 200, 500, 1000, 2000]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_xlabel("images a second on one core (ONNX Runtime)")
    axes.set_ylabel("top-1 accuracy as published, %")
    axes.set_title("MobileNet V1: depth multiplier and input side")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    save_plot(figure, "models.svg")


def main() -> None:
    """Measure, print, write and draw."""
    arguments = create_parser(__doc__, rounds=7, seconds=1).parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    models = read_released()
    speeds = measure(models, arguments.rounds, arguments.seconds)
    text = table(models, speeds)
    print(text)
    write_section("models.md", "speed", text)
    draw(models, speeds)


if __name__ == "__main__":
    main()
