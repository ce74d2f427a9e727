"""Computes images: predicts their cost, admits, decodes and batches them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from app import errors
from app.inference.answers import Outputs, Source, Stages
from app.inference.batch import BatchRow
from app.inference.batcher import DynamicBatcher
from app.inference.decoding import Decoded, DecodeThreads
from app.inference.image import Image
from app.inference.plan import Plan
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces
from model.engines.base import Engine
from model.network.config import LOGITS

_MAX_PLANS: Final = 1024
"""How many different computations have their costs remembered: clients choose layers and sizes."""


class Pipeline:
    """Computes the images of one request at a time, each with its own outputs or its own error.

    Args:
        default: engine of the default model; one image of its size is the unit of work.
        batcher: already started, as the decode threads are.
    """

    def __init__(
        self,
        default: Engine,
        *,
        batcher: DynamicBatcher,
        decode_threads: DecodeThreads,
        metrics: Metrics,
        traces: Traces | None,
    ) -> None:
        self.batcher = batcher
        self.decode_threads = decode_threads
        self._metrics = metrics
        self._traces = traces
        self._default_multiply_adds = Plan(default, frozenset({LOGITS})).multiply_adds
        self._engine_costs: dict[Plan, float] = {}

    def predict_cost(self, image: Image, plan: Plan) -> float:
        """Predict an image's work before anything of it is decoded, in default images.

        Decoding and computing count together, because on a CPU both take the same cores.
        """
        decode_s = image.predict_decode_s(self.decode_threads, plan)
        return self.predict_engine_cost(plan) + decode_s * self.batcher.admission.images_per_s

    def predict_engine_cost(self, plan: Plan) -> float:
        """Predict the work of computing one image, in default images."""
        cost = self._engine_costs.get(plan)
        if cost is None:
            if len(self._engine_costs) == _MAX_PLANS:
                self._engine_costs.clear()
            cost = self._engine_costs[plan] = plan.multiply_adds / self._default_multiply_adds
        return cost

    async def run(self, images: Sequence[Image], plan: Plan) -> list[Outputs | errors.AppError]:
        """Compute images; one that is rejected fails alone.

        They pass through a window, so that one request cannot fill the queue alone.

        Raises:
            AppError: none is admitted.
        """
        if len(images) == 1:
            with self.batcher.admission.reserve(self.predict_cost(images[0], plan)):
                return [await self._run_one(images[0], plan)]
        costs = [self.predict_cost(image, plan) for image in images]
        most = self.batcher.streams * self.batcher.max_batch_size
        window, cost = self.batcher.admission.window(costs, most)
        with self.batcher.admission.reserve(cost):
            free = asyncio.Semaphore(window)

            async def run_in_window(image: Image) -> Outputs | errors.AppError:
                async with free:
                    return await self._run_one(image, plan)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_in_window(image)) for image in images]
        return [task.result() for task in tasks]

    async def _run_one(self, image: Image, plan: Plan) -> Outputs | errors.AppError:
        kind = image.format
        try:
            outputs = await self._decode_and_compute(image, plan, kind)
        except errors.AppError as error:
            self._metrics.record_image(kind, error.code)
            return error.with_traceback(None)  # its frames hold the future that holds it
        except asyncio.CancelledError:
            self._metrics.record_image(kind, "abandoned")
            raise
        self._metrics.record_image(kind, "ok")
        return outputs

    async def _decode_and_compute(self, image: Image, plan: Plan, kind: str) -> Outputs:
        request = self._traces.request if self._traces else None
        cost = self.predict_engine_cost(plan)
        decoded: Decoded

        def submit(done: Decoded) -> None:
            nonlocal decoded
            decoded = done
            self.batcher.submit(answer, plan, cost, request, done.pixels)

        with self.batcher.expect() as answer:
            # From thread to thread: a wake-up of the loop in between would cost as much as parsing.
            fail = partial(self.batcher.fail, answer)
            with image.start_decoding(self.decode_threads, plan, submit, fail):
                row = await answer
        queue_s = decoded.wait_s + row.started - decoded.ready
        stages = Stages(decoded.decode_s, queue_s, row.inference_s)
        self._metrics.record_stages(
            decode=stages.decode_s, queue=stages.queue_s, inference=stages.inference_s
        )
        source = Source(kind, *decoded.size)
        if self._traces:
            _trace(self._traces, plan, row, decoded, source)
        return Outputs(row.arrays, stages, row.batch_size, source, finished=row.finished)


def _trace(traces: Traces, plan: Plan, row: BatchRow, decoded: Decoded, source: Source) -> None:
    if decoded.decode_s:
        traces.record_stage(
            "decode",
            decoded.ready - decoded.decode_s,
            decoded.decode_s,
            thread_wait_s=decoded.wait_s,
            format=source.format,
            width=source.width,
            height=source.height,
        )
    traces.record_stage("queue", decoded.ready, row.started - decoded.ready)
    traces.record_stage(
        "inference",
        row.started,
        row.inference_s,
        link=row.span,
        batch_size=row.batch_size,
        model=plan.engine.checkpoint.name,
    )
