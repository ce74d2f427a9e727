"""From loading to draining: builds the parts, opens the doors and closes them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Self, TypeVar

from app.errors import AppError, NotReadyError, ShuttingDownError
from app.inference.admission import Admission
from app.inference.batcher import DynamicBatcher
from app.inference.cache import SharedAnswers
from app.inference.decoding import DecodeThreads
from app.inference.gauges import show_decode_threads, show_models, show_queue
from app.inference.memory import freeze, trim, unfreeze
from app.inference.options import ClassifyOptions
from app.inference.quota import Pace, no_rest
from app.inference.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.record import Record
from app.telemetry.traces import Traces
from model.engines import load_engine
from model.engines.base import Engine
from model.engines.cores import binding_quota, count_cores
from model.engines.warm_up import Speed, check_engine, measure_speed
from model.images.budget import PIXEL_BYTES
from model.images.cost import create_sample, measure_core
from model.images.decoder import DecodeLimits
from model.sources.load import load_model

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_MEGA = 1_000_000
_MEBI = 1024 * 1024
_REHEARSALS = 3
_REHEARSAL_S = 10.0


class Lifecycle:
    """Use as an async context manager: leaving it answers what was accepted, then ends."""

    def __init__(self, settings: Settings, metrics: Metrics, traces: Traces | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.traces = traces
        self.threads = count_cores() if settings.threads == "auto" else settings.threads
        self.speed = Speed(max_batch_size=1, streams=1, images_per_s=1.0)
        self._decode_slowness = 1.0
        self.ready = asyncio.Event()
        self._service: Service | None = None
        self.draining = False
        self._stack = AsyncExitStack()
        metrics.ready.set_function(lambda: all(self.checks().values()))

    async def __aenter__(self) -> Self:
        """Nothing to start: `load` does."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what was accepted, then end the streams and the decode threads."""
        self.begin_drain()
        await self._stack.aclose()
        if self.traces:
            self.traces.close()
        unfreeze()

    @property
    def service(self) -> Service:
        """The service, once it is loaded.

        Raises:
            NotReadyError: it is not yet.
        """
        if self._service is None:
            raise NotReadyError
        return self._service

    @property
    def queue_capacity(self) -> float:
        """Work that may be inside, in default images: what may wait, and what runs."""
        waiting = self.settings.queue_ms / 1000 * self.speed.images_per_s
        return waiting + self.speed.streams * self.speed.max_batch_size

    async def load(self) -> None:
        """Read the checkpoints, build and test the engines, open the queue.

        Raises:
            ModelError: a checkpoint or an engine cannot be used.
        """
        started = time.monotonic()
        # What is too long for the loop is work for a core: more threads than cores gain nothing.
        work = ThreadPoolExecutor(self.threads, thread_name_prefix="asyncio")
        asyncio.get_running_loop().set_default_executor(work)
        engines = await _run_in_daemon(self._load_engines)
        quota = binding_quota()
        rest = no_rest if quota is None else Pace(quota).rest
        decode_threads = DecodeThreads(
            self.threads,
            self._decode_limits(),
            scaled_jpegs=self.settings.jpeg_scaled_decode,
            slowness=self._decode_slowness,
            rest=rest,
        )
        self._stack.enter_context(decode_threads)
        await self._rehearse(engines, decode_threads)
        batcher = self._create_batcher(self.metrics, rest, self.traces)
        show_models(self.metrics, engines)
        show_queue(self.metrics, batcher)
        show_decode_threads(self.metrics, self.threads, decode_threads)
        await self._stack.enter_async_context(batcher)
        self._service = self._create_service(
            engines, batcher, decode_threads, self.metrics, self.traces
        )
        self.ready.set()
        self._log_ready(engines[0], time.monotonic() - started)

    def _create_batcher(
        self, metrics: Metrics, rest: Callable[[], None], traces: Traces | None
    ) -> DynamicBatcher:
        return DynamicBatcher(
            streams=self.speed.streams,
            max_batch_size=self.speed.max_batch_size,
            admission=Admission(self.queue_capacity, self.speed.images_per_s),
            metrics=metrics,
            rest=rest,
            traces=traces,
        )

    def _create_service(
        self,
        engines: Sequence[Engine],
        batcher: DynamicBatcher,
        decode_threads: DecodeThreads,
        metrics: Metrics,
        traces: Traces | None,
    ) -> Service:
        return Service(
            engines={engine.checkpoint.name: engine for engine in engines},
            batcher=batcher,
            decode_threads=decode_threads,
            metrics=metrics,
            shared=SharedAnswers(int(self.settings.cache_mib * _MEBI), metrics),
            max_output_bytes=int(self.settings.max_output_mib * _MEBI),
            traces=traces,
        )

    async def _rehearse(self, engines: Sequence[Engine], decode_threads: DecodeThreads) -> None:
        """Answer pictures as clients' are, so that no client is the first to have one answered.

        The queue and the counters are of their own: nothing of it shows.
        """
        metrics, sample = Metrics(), create_sample()
        async with self._create_batcher(metrics, no_rest, None) as batcher:
            service = self._create_service(engines, batcher, decode_threads, metrics, None)
            for number in range(_REHEARSALS):  # equal pictures would be computed once
                with suppress(AppError):  # it is for speed: engines have been tested
                    picture = sample + bytes([number])
                    await service.classify(picture, ClassifyOptions(), _REHEARSAL_S, Record(""))

    def begin_drain(self) -> None:
        """Turn readiness red, and answer on."""
        self.draining = True

    def checks(self) -> dict[str, bool]:
        """What readiness rests on."""
        batcher = None if self._service is None else self._service.batcher
        patience_s = self.settings.request_timeout_s  # nobody waits for a longer batch
        return {
            "loaded": batcher is not None,
            "streams_alive": batcher is not None
            and batcher.healthy
            and batcher.batches.longest_s() < patience_s,
            "engine_works": batcher is not None and not batcher.failures.long(),
            "accepting": not self.draining,
        }

    def check_admission(self) -> None:
        """Raise what a request would be refused with now, before its body is read."""
        if self._service is None and self.draining:
            raise ShuttingDownError
        self.service.batcher.admission.check()

    def _load_engines(self) -> list[Engine]:
        engines = []
        for name, source in self.settings.model_sources():
            engine = load_engine(
                load_model(source, name),
                name=self.settings.engine,
                device=self.settings.device,
                threads=self.threads,
            )
            check_engine(engine)
            engines.append(engine)
        batch_size, streams = (
            None if value == "auto" else value
            for value in (self.settings.max_batch_size, self.settings.streams)
        )
        self.speed = measure_speed(engines[0], batch_size, streams)
        engines[0].trim()
        self._decode_slowness = measure_core()
        freeze()
        trim()
        return engines

    def _log_ready(self, first: Engine, seconds: float) -> None:
        _log.info(
            "Ready after %.2f s: %s, engine %s on %s, %d threads, %d streams, batches up to %d, "
            "%.0f images/s, room for %.0f.",
            seconds,
            ", ".join(self.service.engines),
            first.name,
            first.device,
            self.threads,
            self.speed.streams,
            self.speed.max_batch_size,
            self.speed.images_per_s,
            self.queue_capacity,
        )

    def _decode_limits(self) -> DecodeLimits:
        max_pixels = int(self.settings.max_pixels_mp * _MEGA)
        return DecodeLimits(max_pixels, self.settings.max_side, PIXEL_BYTES * max_pixels)


async def _run_in_daemon(work: Callable[[], _T]) -> _T:
    """Await work in a thread that does not keep the process from ending."""
    done: Future[_T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # its awaiter gets it
            done.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(done)
