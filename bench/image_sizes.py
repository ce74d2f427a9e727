"""Throughput of the real service against the size of the photos that it is sent."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from matplotlib import pyplot as plt

from app.settings import Settings
from bench.documents import save_plot, write_section
from bench.load import Load, LoadGenerator
from bench.photos import resize_photo
from bench.server import ServerProcess

_MEGAPIXELS = (0.2, 0.5, 1, 2, 4, 8, 12, 24)
_PHOTOS = 32
_CONNECTIONS = 16
"""Fewer than photos: equal ones in flight would be one image."""
_SECONDS_A_MEGAPIXEL = 0.25
"""Added to the time of each figure: few large photos are answered in a second."""
_SCALED_DECODE = "jpeg_scaled_decode"


class ImageSizes:
    """One run's figures, one entry a round; by whether JPEGs are decoded at a part of their size.

    The photos are the small ones, enlarged.
    """

    def __init__(self) -> None:
        self.mean_kb: dict[float, float] = {}
        self.loads: dict[tuple[str, float], list[Load]] = defaultdict(list)

    def measure(self, photos: list[bytes], rounds: int, seconds: float) -> None:
        """Send photos of each size to each server, in turns."""
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(ServerProcess(max_body_mib=64, **setting))
                for name, setting in _settings().items()
            }
            generators = {}
            for megapixels in _MEGAPIXELS:
                sized = [resize_photo(photo, megapixels) for photo in photos[:_PHOTOS]]
                self.mean_kb[megapixels] = statistics.mean(map(len, sized)) / 1000
                generators[megapixels] = stack.enter_context(LoadGenerator(sized))
            for _ in range(rounds):
                for megapixels, generator in generators.items():
                    for name, server in servers.items():
                        duration = seconds + megapixels * _SECONDS_A_MEGAPIXEL
                        load = generator.run(server.url, "raw", _CONNECTIONS, duration)
                        self.loads[name, megapixels].append(load)

    def images_per_s(self, name: str, megapixels: float) -> float:
        """The median of the rounds."""
        return statistics.median(load.images_per_s for load in self.loads[name, megapixels])

    def p50_ms(self, name: str, megapixels: float) -> float:
        """The median of the rounds."""
        return statistics.median(load.p50_ms for load in self.loads[name, megapixels])

    def write(self) -> None:
        """Replace the table of docs/performance.md, and draw it."""
        names = list(_settings())
        heads = " | ".join(f"{name}: images/s | p50 ms" for name in names)
        lines = [f"| megapixels | KB | {heads} |", f"|--:|--:|{'--:|' * 2 * len(names)}"]
        for megapixels, mean_kb in self.mean_kb.items():
            values = " | ".join(
                f"{self.images_per_s(name, megapixels):.1f} | {self.p50_ms(name, megapixels):.0f}"
                for name in names
            )
            lines.append(f"| {megapixels} | {mean_kb:.0f} | {values} |")
        text = "\n".join(lines)
        print(text)
        write_section("performance.md", "image-size", text)
        self._draw(names)

    def _draw(self, names: list[str]) -> None:
        figure, axes = plt.subplots(figsize=(7, 4))
        for name in names:
            values = [self.images_per_s(name, megapixels) for megapixels in _MEGAPIXELS]
            axes.plot(_MEGAPIXELS, values, "o-", label=name)
        axes.set_xscale("log")
        axes.set_xticks(_MEGAPIXELS, [str(megapixels) for megapixels in _MEGAPIXELS])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("megapixels of a JPEG photo")
        axes.set_ylabel("images a second")
        axes.set_title(f"The service against image size, {_CONNECTIONS} connections")
        axes.grid(alpha=0.3)
        axes.legend()
        save_plot(figure, "scale_image_size.svg")


def _settings() -> dict[str, dict[str, Any]]:
    if _SCALED_DECODE not in Settings.model_fields:
        return {"full decode": {}}
    return {
        "scaled decode": {_SCALED_DECODE: "true"},
        "full decode": {_SCALED_DECODE: "false"},
    }
