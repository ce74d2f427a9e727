"""Quantizes a checkpoint, compares it with the float one, and writes it if they agree."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.checkpoints.checkpoint import save_checkpoint
from model.engines.cores import count_cores
from model.errors import QuantizationError
from model.quantization.agreement import Agreement, compare
from model.quantization.images import read_images
from model.quantization.quantize import quantize
from model.sources.load import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEAST_SHARE = 0.97


@dataclass(frozen=True, slots=True)
class Report:
    """What was done: how many images calibrated, how many files were none, and the agreement."""

    calibrated: int
    rejected: int
    agreement: Agreement


def quantize_model(
    source: str,
    find_images: Callable[[], list[Path]],
    directory: Path,
    report: Callable[[Report], object],
) -> None:
    """Write an int8 checkpoint of float weights.

    Args:
        source: see `load_model`.
        find_images: called once the model is loaded.
        directory: to write; must not exist.
        report: is told the agreement before anything is written or refused.

    Raises:
        ModelError: the model cannot be loaded or is no float classifier, the images are too few,
            or the answers differ on too many of them.
        OSError: the directory cannot be written.
    """
    checkpoint = load_model(source)
    if checkpoint.quantization:
        raise QuantizationError(f"{source}: is quantized already")
    if not checkpoint.config.num_labels:
        raise QuantizationError(f"{source}: has no classes, by which answers are compared")
    with _new_directory(directory):
        images = read_images(find_images(), checkpoint.preprocessing)
        threads = count_cores()
        quantized = quantize(checkpoint, images.calibration, threads)
        agreement = compare(checkpoint, quantized, images.held_out, threads)
        report(Report(len(images.calibration), images.rejected, agreement))
        if agreement.share < LEAST_SHARE:
            raise QuantizationError(
                f"not written: {agreement.share:.1%} of the images held out get the same best "
                f"class, and {LEAST_SHARE:.0%} are the least"
            )
        save_checkpoint(
            directory, checkpoint.config, checkpoint.preprocessing, None, quantized.quantization
        )


@contextmanager
def _new_directory(directory: Path) -> Iterator[None]:
    """Make a directory before the long work, and take it away if that fails."""
    directory.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(directory)
        raise
