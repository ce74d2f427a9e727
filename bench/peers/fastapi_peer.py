"""FastAPI: one call of the engine a request, in the thread pool that `def` handlers run in.

https://fastapi.tiangolo.com/async/, https://fastapi.tiangolo.com/deployment/server-workers/ and
https://www.starlette.io/threadpool/: with as many threads as the engine has, calls do not fight
over the core.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI, UploadFile

from bench.peers.engines import Answer, create_engine
from bench.peers.peer import PeerSettings


def create_app() -> FastAPI:
    """Return the application for uvicorn."""
    settings = PeerSettings.from_environment()
    engine = create_engine(settings.engine, settings.threads)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.threads is not None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = settings.threads
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/classify")
    def classify(file: UploadFile) -> list[Answer]:
        return engine.classify([engine.preprocess(file.file.read())])[0]

    return app
