"""What an image is predicted to cost, before anything of it is decoded."""

from __future__ import annotations

from app.inference.decoding import DecodeThreads
from app.inference.plan import Image, Plan
from model.engines.base import Engine


class Costs:
    """An image's work, decoding and computing, in images of the default model's own size.

    The sum, because on a CPU both take the same cores.

    Args:
        default: the engine of the default model.
        decode_threads: predict what decoding takes.
        images_per_s: of the default model's own size, as measured.
    """

    def __init__(self, default: Engine, decode_threads: DecodeThreads, images_per_s: float) -> None:
        own_size = default.checkpoint.preprocessing.input_size
        self._default_multiply_adds = default.checkpoint.config.multiply_adds(*own_size)
        self._decode_threads = decode_threads
        self._images_per_s = images_per_s
        self._engine_costs: dict[tuple[str, int, int, int, str | None], float] = {}

    def predict(self, image: Image, plan: Plan) -> float:
        """The work of one image."""
        if not isinstance(image, bytes):
            return self._predict_engine(plan)
        preprocessing = plan.engine.checkpoint.preprocessing
        decode_s = self._decode_threads.predict_seconds(image, preprocessing, plan.side)
        return self._predict_engine(plan) + decode_s * self._images_per_s

    def _predict_engine(self, plan: Plan) -> float:
        shape = plan.engine.checkpoint.name, *plan.input_size, plan.output_stride, plan.deepest
        if shape not in self._engine_costs:
            self._engine_costs[shape] = plan.multiply_adds / self._default_multiply_adds
        return self._engine_costs[shape]
