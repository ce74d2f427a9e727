"""Answers images in this process: the service's parts, without HTTP and without a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from app.api.routes.schemas import Prediction, create_predictions
from app.cli.bulk.files import FileError, StoppedError
from app.cli.bulk.workers import Answerer
from app.errors import AppError, NoClassifierError
from app.inference.answers import Arrays, extract, rank
from app.inference.batch import BatchItem, BatchRow, run_batch
from app.inference.decoding import read_header
from app.inference.engines import choose_batch_size, count_threads, create_decoder, load_engines
from app.inference.options import ClassifyOptions, EmbedOptions
from app.inference.plan import Plan
from app.settings import MEBI, Settings
from model.network.config import LOGITS

_T = TypeVar("_T")


class LocalModel:
    """The first model of the settings, with all the cores that they leave it.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        (self._engine,) = load_engines(islice(settings.model_sources(), 1), settings)
        self._batch_size = choose_batch_size(settings, self._engine)
        self._workers = count_threads(settings)
        self._max_bytes = int(settings.max_body_mib * MEBI)
        self._decoder = create_decoder(settings)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.checkpoint.name

    def classifier(self, options: ClassifyOptions) -> Answerer[list[Prediction]]:
        """Name the best classes.

        Raises:
            StoppedError: the model has no classes.
        """
        labels = self._engine.checkpoint.labels
        if not labels:
            raise StoppedError(NoClassifierError.detail)

        def finish(arrays: Arrays) -> list[Prediction]:
            return create_predictions(rank(arrays, labels, options).predictions)

        return self._answerer(Plan(self._engine, frozenset({LOGITS}), options.size), finish)

    def embedder(self, options: EmbedOptions) -> Answerer[Arrays]:
        """Make the features by layer, in the dtype wanted; shapes as `Feature.shape`."""

        def finish(arrays: Arrays) -> Arrays:
            layers = extract(arrays, options)
            return {name: array.astype(options.dtype) for name, array in layers.items()}

        plan = Plan(self._engine, options.outputs, options.size, options.output_stride)
        return self._answerer(plan, finish)

    def _answerer(self, plan: Plan, finish: Callable[[Arrays], _T]) -> Answerer[_T]:
        ask = partial(self._ask, plan, finish)
        return Answerer(ask, self._workers, self._batch_size, self._max_bytes)

    def _ask(
        self, plan: Plan, finish: Callable[[Arrays], _T], images: Sequence[bytes]
    ) -> list[_T | FileError]:
        decoded = [self._decode(image, plan) for image in images]
        items = [one for one in decoded if isinstance(one, BatchItem)]
        rows = iter(run_batch(items, alone=False, now=time.monotonic) if items else ())
        outcomes = (next(rows) if isinstance(one, BatchItem) else one for one in decoded)
        return [
            finish(one.arrays) if isinstance(one, BatchRow) else _explain(one) for one in outcomes
        ]

    def _decode(self, image: bytes, plan: Plan) -> BatchItem | AppError:
        try:
            pixels, _ = self._decoder.decode(read_header(image), plan)
        except AppError as error:
            return error
        return BatchItem(plan, pixels)


def _explain(error: AppError) -> FileError:
    if error.code == AppError.code and error.__cause__:
        return FileError(f"The engine failed on this image ({type(error.__cause__).__name__}).")
    return FileError.of(error)
