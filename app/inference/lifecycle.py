"""Runs the service from loading to draining: builds its parts, opens them and closes them."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

from app.errors import NotReadyError, ShuttingDownError
from app.inference.admission import Admission
from app.inference.batcher import DynamicBatcher
from app.inference.cache import ResultCache
from app.inference.decoding import DecodeThreads
from app.inference.engines import (
    choose_batch_size,
    count_threads,
    create_decoder,
    load_engines,
)
from app.inference.estimate import Estimate
from app.inference.memory import freeze, trim
from app.inference.pipeline import Pipeline
from app.inference.plan import Plan
from app.inference.quota import CpuThrottle
from app.inference.service import Service
from app.settings import MEBI, Settings
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces
from model.engines.base import Engine
from model.engines.cores import binding_quota
from model.network.config import LOGITS

_log = logging.getLogger(__name__)

_MULTIPLY_ADDS_PER_S = 10e9
"""A cautious guess at what a core does, until the first batch has run."""

_T = TypeVar("_T")


class Lifecycle(AbstractAsyncContextManager["Lifecycle"]):
    """Use as an async context manager: leaving it drains and ends the service."""

    def __init__(self, settings: Settings, metrics: Metrics, traces: Traces | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.traces = traces
        self.threads = count_threads(settings)
        self.ready = asyncio.Event()
        self._service: Service | None = None
        self.draining = False
        self._stack = AsyncExitStack()
        metrics.ready.set_function(lambda: all(self.checks().values()))

    async def __aexit__(self, *_: object) -> None:
        """Drain, then end the streams and the decode threads."""
        self.begin_drain()
        await self._stack.aclose()
        if self.traces:
            self.traces.close()
        gc.unfreeze()  # what was loaded may be garbage now

    @property
    def service(self) -> Service:
        """The service; raises NotReadyError until it is loaded."""
        if self._service is None:
            raise NotReadyError
        return self._service

    async def load(self) -> None:
        """Load and test the engines, and open the queue.

        Raises:
            ModelError: a checkpoint or an engine cannot be used.
        """
        started = time.monotonic()
        # What takes too long for the loop is work for a core: more threads than cores gain nothing.
        work = ThreadPoolExecutor(self.threads, thread_name_prefix="asyncio")
        asyncio.get_running_loop().set_default_executor(work)
        engines = await _run_in_daemon(self._load_engines)
        self._service = Service(
            {engine.checkpoint.name: engine for engine in engines},
            await self._start_pipeline(engines[0]),
            ResultCache(int(self.settings.cache_mib * MEBI)),
            max_output_bytes=int(self.settings.max_output_mib * MEBI),
            metrics=self.metrics,
        )
        _export(self.metrics, self._service)
        self.ready.set()
        self._log_ready(engines[0], time.monotonic() - started)

    async def _start_pipeline(self, default: Engine) -> Pipeline:
        quota = binding_quota()
        throttle = (lambda: None) if quota is None else CpuThrottle(quota)
        decode_threads = DecodeThreads(
            self.threads,
            create_decoder(self.settings),
            throttle=throttle,
        )
        streams = default.streams if self.settings.streams == "auto" else self.settings.streams
        batch_size = choose_batch_size(self.settings, default)
        admission = Admission(
            queue_s=self.settings.queue_ms / 1000,
            streams=streams,
            running=streams * batch_size,
            image_s=Estimate(
                Plan(default, frozenset({LOGITS})).multiply_adds / _MULTIPLY_ADDS_PER_S
            ),
        )
        batcher = DynamicBatcher(
            streams=streams,
            max_batch_size=batch_size,
            admission=admission,
            metrics=self.metrics,
            throttle=throttle,
            traces=self.traces,
        )
        return Pipeline(
            default,
            decode_threads=self._stack.enter_context(decode_threads),
            batcher=await self._stack.enter_async_context(batcher),  # drains while they decode
            metrics=self.metrics,
            traces=self.traces,
        )

    def begin_drain(self) -> None:
        """Turn readiness red, and go on answering."""
        self.draining = True

    def checks(self) -> dict[str, bool]:
        """The checks that readiness depends on."""
        loaded = self._service is not None
        checks = dict.fromkeys(("loaded", "streams_alive", "engine_works"), loaded)
        if loaded:
            batcher = self.service.batcher
            patience_s = self.settings.request_timeout_s  # no caller waits for a longer batch
            hangs = batcher.in_flight.longest_s() >= patience_s
            checks["streams_alive"] = batcher.healthy and not hangs
            checks["engine_works"] = not batcher.breaker.open_ids()
        return {**checks, "accepting": not self.draining}

    def check_admission(self) -> None:
        """Raise the error that a new request would get now, before its body is read."""
        if self._service is None and self.draining:
            raise ShuttingDownError
        self.service.batcher.admission.check()

    def _load_engines(self) -> list[Engine]:
        engines = load_engines(self.settings.model_sources(), self.settings)
        freeze()
        trim()
        return engines

    def _log_ready(self, first: Engine, seconds: float) -> None:
        _log.info(
            "Ready after %.2f s: %s, engine %s on %s, %d threads, %d streams, batches up to %d.",
            seconds,
            ", ".join(self.service.engines),
            first.name,
            first.device,
            self.threads,
            self.service.batcher.streams,
            self.service.batcher.max_batch_size,
        )


def _export(metrics: Metrics, service: Service) -> None:
    for engine in service.engines.values():
        checkpoint = engine.checkpoint
        described = checkpoint.name, checkpoint.digest, engine.name, engine.device
        metrics.model_info.labels(*described).set(1)
    export_queue(metrics, service.batcher)
    decode_threads, cache = service.pipeline.decode_threads, service.cache
    metrics.decode_threads.set(decode_threads.threads)
    metrics.decode_threads_busy.set_function(lambda: len(decode_threads.in_flight.ids()))
    metrics.cache_bytes.set_function(lambda: cache.size)


def export_queue(metrics: Metrics, batcher: DynamicBatcher) -> None:
    """Let the gauges of the queue be read from it when they are scraped."""
    admission = batcher.admission
    metrics.queue_depth.set_function(lambda: batcher.waiting)
    metrics.queue_oldest.set_function(lambda: batcher.oldest_wait_s)
    metrics.work.set_function(lambda: admission.work)
    metrics.work_capacity.set_function(lambda: admission.capacity)
    metrics.streams.set(batcher.streams)
    metrics.streams_busy.set_function(lambda: len(batcher.in_flight.ids()))


async def _run_in_daemon(work: Callable[[], _T]) -> _T:
    """Await work in a thread that does not keep the process from ending."""
    done: Future[_T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # the awaiter gets it
            done.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(done)
