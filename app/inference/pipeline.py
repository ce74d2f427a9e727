"""One image from its bytes to the engine's outputs: decoded, queued, run; counted and traced."""

from __future__ import annotations

import asyncio
from functools import partial

from app import errors
from app.inference.answers import Outputs, Source, Stages
from app.inference.batch import BatchRow, Entry
from app.inference.batcher import DynamicBatcher
from app.inference.decoding import Decoded, DecodeThreads
from app.inference.plan import Image, Plan
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces
from model.images.formats.table import sniff


class Computation:
    """Computes images.

    Args:
        batcher: already started.
        decode_threads: already started.
        metrics: count images and time their stages.
        traces: get spans for each image.
    """

    def __init__(
        self,
        batcher: DynamicBatcher,
        decode_threads: DecodeThreads,
        metrics: Metrics,
        traces: Traces | None,
    ) -> None:
        self._batcher = batcher
        self._decode_threads = decode_threads
        self._metrics = metrics
        self._traces = traces

    async def run(self, image: Image, plan: Plan) -> Outputs:
        """Compute one image; the caller holds a place in the queue.

        Raises:
            AppError: it is no image that we accept, or the engine failed on it.
        """
        kind = (sniff(image) or "unknown").lower() if isinstance(image, bytes) else "pixels"
        try:
            outputs = await self._decode_and_run(image, plan, kind)
        except errors.AppError as error:
            self._metrics.images.labels(kind, error.code).inc()
            raise
        except asyncio.CancelledError:
            self._metrics.images.labels(kind, "abandoned").inc()
            raise
        self._metrics.images.labels(kind, "ok").inc()
        return outputs

    async def _decode_and_run(self, image: Image, plan: Plan, kind: str) -> Outputs:
        preprocessing = plan.engine.checkpoint.preprocessing
        with self._batcher.open(
            plan.engine, plan.outputs, output_stride=plan.output_stride
        ) as entry:
            if not isinstance(image, bytes):
                self._batcher.enter(entry, image)
                height, width, _ = image.shape
                decoded = Decoded(image, 0.0, 0.0, (width, height))
                return self._tell(entry, await entry.answer, decoded, kind)
            # From thread to thread: a wake-up of the loop in between would cost as much as parsing.
            enter, fail = partial(self._batcher.enter, entry), partial(self._batcher.fail, entry)
            with self._decode_threads.start(
                image, preprocessing, plan.side, enter=enter, fail=fail
            ) as decoding:
                row = await entry.answer
        return self._tell(entry, row, decoding.result(), kind)

    def _tell(self, entry: Entry, row: BatchRow, decoded: Decoded, kind: str) -> Outputs:
        stages = Stages(decoded.decode_s, decoded.wait_s + row.queue_s, row.inference_s)
        self._metrics.record_stages(
            decode=stages.decode_s, queue=stages.queue_s, inference=stages.inference_s
        )
        source = Source(kind, *decoded.size)
        if self._traces:
            self._trace(self._traces, entry, row, decoded, source)
        return Outputs(row.arrays, stages, row.batch_size, source)

    @staticmethod
    def _trace(
        traces: Traces, entry: Entry, row: BatchRow, decoded: Decoded, source: Source
    ) -> None:
        here, decode_s = entry.submitted, decoded.decode_s
        if decode_s:
            traces.record_stage(
                "decode",
                here - decode_s,
                decode_s,
                thread_wait_s=decoded.wait_s,
                format=source.format,
                width=source.width,
                height=source.height,
            )
        traces.record_stage("queue", here, row.queue_s)
        traces.record_stage(
            "inference",
            here + row.queue_s,
            row.inference_s,
            link=entry.batch,
            batch_size=row.batch_size,
            model=entry.engine.checkpoint.name,
        )
