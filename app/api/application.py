"""create_app: builds the parts, wires them, owns start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import __version__
from app.api.documents.openapi import DESCRIPTION, SWAGGER_UI, TAGS, create_openapi
from app.api.middleware.cors import create_cors
from app.api.middleware.guard import Guard
from app.api.middleware.keys import ApiKeys, is_public, load_keys
from app.api.middleware.request_context import Authorization, Door, RequestContext
from app.api.page.live import Live
from app.api.page.routes import add_page
from app.api.problems import create_problem_response
from app.api.routes import health, huggingface, information, native, openai
from app.api.routes.open_inference import routes as open_inference
from app.errors import (
    AppError,
    InvalidParameterError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
)
from app.inference.lifecycle import Lifecycle
from app.settings import Settings
from app.telemetry.access_log import AccessLog
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces, create_traces, is_probe

_MEBI = 1024 * 1024
_HELD_BODIES = 2
"""Of the largest that are allowed: so much memory all bodies may take together."""
_FRAMEWORK_ERRORS = {404: NotFoundError, 405: MethodNotAllowedError}

OnFailure = Callable[[BaseException], None]


def create_app(settings: Settings, on_failure: OnFailure | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: all options.
        on_failure: told when loading fails; readiness stays red.

    Raises:
        InvalidSettingError: API_KEYS_FILE is none.
    """
    keys = load_keys(settings.api_keys_file) if settings.api_keys_file else None
    traces = create_traces()
    lifecycle = Lifecycle(settings, Metrics(), traces)
    app: FastAPI = FastAPIOffline(
        title="mobilenet-serve",
        description=DESCRIPTION,
        openapi_tags=list(TAGS),
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_parameters=SWAGGER_UI,
        lifespan=_create_lifespan(lifecycle, on_failure),
        telemetry=_configure_telemetry(traces),
    )
    app.state.lifecycle = lifecycle
    protocols = (huggingface, openai, open_inference)
    for routes in (native, information, health, *protocols):
        app.include_router(routes.router)
    app.state.live = Live(lifecycle.metrics, _max_body_bytes(settings))
    if settings.page:
        add_page(app)
    for error in (AppError, HTTPException, RequestValidationError):
        app.add_exception_handler(error, _answer_error)
    _add_middleware(app, settings, lifecycle, keys)
    (model, _), *_ = settings.model_sources()
    openapi = create_openapi(app, model, lambda path: keys is not None and not is_public(path))
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend the document
    return app


def _add_middleware(
    app: FastAPI, settings: Settings, lifecycle: Lifecycle, keys: ApiKeys | None
) -> None:
    """Innermost first: what is added last is the first to see a request."""
    metrics = lifecycle.metrics
    app.state.guard = guard = Guard(
        check_admission=lifecycle.check_admission,
        max_body_bytes=_max_body_bytes(settings),
        check_key=keys.check if keys else lambda _: None,
        origins=settings.cors_origins,
    )
    app.add_middleware(
        Door,
        guard=guard,
        body_timeout_s=settings.body_timeout_s,
        max_held_bytes=_HELD_BODIES * guard.max_body_bytes,
        metrics=metrics,
    )
    if keys:
        app.add_middleware(Authorization, keys=keys, metrics=metrics)
    app.state.access_log = access_log = AccessLog()
    cors = create_cors(settings.cors_origins)
    app.add_middleware(
        RequestContext,
        metrics=metrics,
        access_log=access_log,
        cors=cors,
        traces=lifecycle.traces,
    )


def _configure_telemetry(traces: Traces | None) -> TelemetryConfig:
    """The framework makes a request's span, and sends nothing on by itself."""
    config = TelemetryConfig(
        auto_configure=False, logs=False, metrics=False, operation_spans=False, tracing=False
    )
    if traces:
        config |= TelemetryConfig(tracing=True, tracer_provider=traces.provider, exclude=is_probe)
    return config


def _max_body_bytes(settings: Settings) -> dict[str, int]:
    one, many = (int(mib * _MEBI) for mib in (settings.max_body_mib, settings.max_batch_body_mib))
    return {
        "/classify": one,
        "/embed": one,
        "/classify/batch": many,
        "/embed/batch": many,
        huggingface.PATH: one,
        openai.PATH: many,
        open_inference.PATH: many,
    }


def _create_lifespan(
    lifecycle: Lifecycle, on_failure: OnFailure | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    def report(loading: asyncio.Task[None]) -> None:
        if not loading.cancelled() and (error := loading.exception()) and on_failure:
            on_failure(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with lifecycle:
            # Liveness answers while the weights are read.
            loading = asyncio.create_task(lifecycle.load())
            loading.add_done_callback(report)
            yield
            loading.cancel()

    return lifespan


async def _answer_error(request: Request, error: Exception) -> Response:
    """Turn anything that a handler raises on purpose into a problem document."""
    return create_problem_response(
        _translate(error), request.state.request_id, request.scope["path"]
    )


def _translate(error: Exception) -> AppError:
    match error:
        case AppError():
            return error
        case HTTPException(status_code=status) if status in _FRAMEWORK_ERRORS:
            return _FRAMEWORK_ERRORS[status](headers=dict(error.headers or {}))
        case HTTPException():
            return MalformedRequestError("The request cannot be understood.")
        case RequestValidationError():
            return InvalidParameterError(_explain(error))
    return AppError()


def _explain(error: RequestValidationError) -> str:
    """Say which parameter is wrong and why, without a word that the client sent."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        return "There is an unknown query parameter; /docs lists those of this route."
    return f"{first['loc'][-1]}: {first['msg']}."
