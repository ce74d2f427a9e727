"""Answers of this process: the service's parts, without HTTP and without a queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app import errors
from app.api.routes.schemas import Prediction
from app.cli.bulk.errors import FileError, StoppedError
from app.cli.bulk.workers import Answerer
from app.inference.decoding import translate_image_error
from app.inference.options import DEFAULT_TOP_K, ClassifyOptions, EmbedOptions
from app.inference.plan import Plan
from app.settings import Settings
from model.engines import load_engine
from model.engines.cores import count_cores
from model.engines.warm_up import check_engine
from model.errors import ImageError
from model.images.decoder import DecodeLimits, Decoder
from model.images.pixels import needed_size, preprocess
from model.network.config import LOGITS
from model.network.scores import normalize, softmax, top_k
from model.sources.load import load_model

if TYPE_CHECKING:
    from model.images.decoded_image import Size

_T = TypeVar("_T")
_Arrays = Mapping[str, NDArray[np.float32]]

_MEGA: Final = 1_000_000
_MEBI: Final = 1024 * 1024
_BATCH_SIZES: Final = {"cpu": 2, "cuda": 64}
"""One thread decodes a batch and then computes it. On a CPU two fill it, and four are no faster."""


class LocalModel:
    """The first model of the settings, with all the cores that they leave it.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        name, source = next(settings.model_sources())
        threads = count_cores() if settings.threads == "auto" else settings.threads
        self._engine = load_engine(
            load_model(source, name), name=settings.engine, device=settings.device, threads=threads
        )
        check_engine(self._engine)
        batch_size = settings.max_batch_size
        self._batch_size = _BATCH_SIZES[self._engine.device] if batch_size == "auto" else batch_size
        self._workers = threads
        self._max_bytes = int(settings.max_body_mib * _MEBI)
        self._scaled_jpegs = settings.jpeg_scaled_decode
        max_pixels = int(settings.max_pixels_mp * _MEGA)
        self._decoder = Decoder(DecodeLimits(max_pixels, settings.max_side, 2 * max_pixels))

    @property
    def name(self) -> str:
        """The model's."""
        return self._engine.checkpoint.name

    def classifier(self, options: ClassifyOptions) -> Answerer[list[Prediction]]:
        """Names the best classes.

        Raises:
            StoppedError: the model has no classes.
        """
        labels = self._engine.checkpoint.labels
        if not labels:
            raise StoppedError(errors.NoClassifierError.detail)

        def best(arrays: _Arrays) -> list[Prediction]:
            count = options.top_k or DEFAULT_TOP_K
            found = top_k(softmax(arrays[LOGITS]), count, options.min_score)
            return [
                Prediction(class_id=one.class_id, wnid=one.wnid, label=one.label, score=score)
                for one, score in ((labels[class_id], score) for class_id, score in found)
            ]

        return self._answerer(Plan(self._engine, frozenset({LOGITS}), options.size), best)

    def embedder(self, options: EmbedOptions) -> Answerer[_Arrays]:
        """Gives the features by layer, in the dtype wanted; shapes as `Feature.shape`."""
        outputs = frozenset(feature.output for feature in options.features)

        def extract(arrays: _Arrays) -> _Arrays:
            layers = {one.layer: one.extract(arrays) for one in options.features}
            if options.normalize:
                layers = {name: normalize(array) for name, array in layers.items()}
            return {name: array.astype(options.dtype) for name, array in layers.items()}

        plan = Plan(self._engine, outputs, options.size, options.output_stride)
        return self._answerer(plan, extract)

    def _answerer(self, plan: Plan, finish: Callable[[_Arrays], _T]) -> Answerer[_T]:
        ask = partial(self._ask, plan, finish)
        return Answerer(ask, self._workers, self._batch_size, self._max_bytes)

    def _ask(
        self, plan: Plan, finish: Callable[[_Arrays], _T], images: Sequence[bytes]
    ) -> list[_T | FileError]:
        decoded = [self._decode(image, plan) for image in images]
        pixels = [one for one in decoded if not isinstance(one, FileError)]
        rows = iter(self._run(plan, pixels))
        every = (one if isinstance(one, FileError) else next(rows) for one in decoded)
        return [one if isinstance(one, FileError) else finish(one) for one in every]

    def _decode(self, image: bytes, plan: Plan) -> NDArray[np.uint8] | FileError:
        if not image:
            return FileError.of(errors.EmptyFileError())
        preprocessing = plan.engine.checkpoint.preprocessing

        def needed(size: Size) -> Size | None:
            return needed_size(size, preprocessing, plan.side) if self._scaled_jpegs else None

        try:
            with self._decoder.open(image, needed) as picture:
                return preprocess(picture, preprocessing, plan.side)
        except ImageError as error:
            return FileError.of(translate_image_error(error))
        except MemoryError:
            return FileError.of(errors.OutOfMemoryError())

    def _run(self, plan: Plan, pixels: Sequence[NDArray[np.uint8]]) -> list[_Arrays | FileError]:
        """The engine's rows; a batch that fails is computed image by image."""
        if not pixels:
            return []
        try:
            arrays = plan.engine.run(
                np.stack(pixels), plan.outputs, output_stride=plan.output_stride, alone=False
            ).arrays
        except Exception as error:  # noqa: BLE001  # whatever it was, it may be one image's fault
            if len(pixels) > 1:
                return [row for one in pixels for row in self._run(plan, [one])]
            if isinstance(error, MemoryError):
                return [FileError.of(errors.OutOfMemoryError())]
            return [FileError(f"The engine failed on this image ({type(error).__name__}).")]
        return [
            _check({name: array[index] for name, array in arrays.items()})
            for index in range(len(pixels))
        ]


def _check(row: _Arrays) -> _Arrays | FileError:
    if all(np.isfinite(values).all() for values in row.values()):
        return row
    return FileError.of(errors.ModelOutputInvalidError())
