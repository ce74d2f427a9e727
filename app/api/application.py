"""Builds the application: its parts, routes and middleware, and what starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount, Route

from app import __version__
from app.api.documents.openapi import DESCRIPTION, SWAGGER_UI, TAGS, create_openapi
from app.api.middleware.admission import AdmissionControl
from app.api.middleware.authorization import ApiKeys, Authorization, load_keys
from app.api.middleware.request_context import RequestContext
from app.api.page import routes as page
from app.api.page.live import Live
from app.api.parts import Parts, get_parts
from app.api.problems import create_error_response
from app.api.routes import health, huggingface, information, native, openai
from app.api.routes.open_inference import routes as open_inference
from app.api.routing import Body, RouteTable, declare
from app.api.validation import explain
from app.errors import (
    AppError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
)
from app.inference.lifecycle import Lifecycle
from app.settings import MEBI, Settings
from app.telemetry.access_log import AccessLog
from app.telemetry.metrics import Metrics
from app.telemetry.traces import Traces, create_traces

_PROTOCOLS: Final = (huggingface, openai, open_inference)
_FRAMEWORK_ERRORS: Final = {404: NotFoundError, 405: MethodNotAllowedError}

OnFailure = Callable[[BaseException], None]


def create_app(settings: Settings, on_failure: OnFailure | None = None) -> FastAPI:
    """Build the service; calls `on_failure` when loading fails, and readiness stays red.

    Raises:
        InvalidSettingError: API_KEYS_FILE has no valid keys.
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
        telemetry=_configure_telemetry(traces, lambda scope: _is_untraced(app, scope)),
    )
    _add_routes(app, settings)
    routes = RouteTable(app.routes, [one.ERRORS for one in _PROTOCOLS])
    live = Live(lifecycle.metrics, routes.image_paths)
    app.state.parts = Parts(lifecycle, AccessLog(), live, routes)
    for error in (AppError, HTTPException, RequestValidationError):
        app.add_exception_handler(error, _answer_error)
    _add_middleware(app, keys)
    (model, _), *_ = settings.model_sources()
    openapi = create_openapi(app, model, routes, has_keys=keys is not None)
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to extend the document
    return app


def _add_routes(app: FastAPI, settings: Settings) -> None:
    """Add every route, what is asked most first; `include_router` would have each matched twice."""
    documentation = list(app.routes)
    for one in documentation:
        match one:
            case Mount():
                declare(public=True)(one.app)
            case Route():
                declare(public=True)(one.endpoint)
    modules = (native, information, health, *_PROTOCOLS)
    app.router.routes[:0] = [route for module in modules for route in module.router.routes]
    if settings.page:
        app.router.routes += page.router.routes
        app.mount(page.STATIC, page.files)


def _add_middleware(app: FastAPI, keys: ApiKeys | None) -> None:
    """Add the innermost first: what is added last is the first to see a request."""
    parts = get_parts(app)
    settings = parts.lifecycle.settings
    app.add_middleware(
        AdmissionControl,
        routes=parts.routes,
        check_admission=parts.lifecycle.check_admission,
        max_body_bytes={
            Body.ONE_IMAGE: int(settings.max_body_mib * MEBI),
            Body.MANY_IMAGES: int(settings.max_batch_body_mib * MEBI),
        },
        body_timeout_s=settings.body_timeout_s,
    )
    if keys:
        app.add_middleware(Authorization, keys=keys, routes=parts.routes)
    app.add_middleware(
        RequestContext,
        origins=settings.cors_origins,
        routes=parts.routes,
        metrics=parts.lifecycle.metrics,
        access_log=parts.access_log,
        traces=parts.lifecycle.traces,
    )


def _configure_telemetry(traces: Traces | None, exclude: Callable[[Any], bool]) -> TelemetryConfig:
    """Let the framework make a request's span, and export nothing by itself."""
    config = TelemetryConfig(
        auto_configure=False, logs=False, metrics=False, operation_spans=False, tracing=False
    )
    if traces:
        config |= TelemetryConfig(tracing=True, tracer_provider=traces.provider, exclude=exclude)
    return config


def _is_untraced(app: FastAPI, scope: Any) -> bool:
    """Whether a request gets no span: to a probe, or refused under overload."""
    parts = get_parts(app)
    route = parts.routes.find(scope["method"], scope["path"])
    if route.body is Body.NOTHING:
        return route.probe
    try:
        parts.lifecycle.check_admission()
    except AppError as error:
        return isinstance(error, OverloadedError)
    return False


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
    """Answer what a route or the framework raises."""
    error_format = get_parts(request.app).routes.find_format(request.scope["path"])
    return create_error_response(_translate(error), request.state.record.request_id, error_format)


def _translate(error: Exception) -> AppError:
    match error:
        case AppError():
            return error
        case HTTPException(status_code=status) if status in _FRAMEWORK_ERRORS:
            return _FRAMEWORK_ERRORS[status](headers=dict(error.headers or {}))
        case HTTPException():
            return MalformedRequestError("The request cannot be understood.")
        case RequestValidationError():
            return explain(error.errors(), of="query")
    return AppError()
