"""Answers orchestrators and Prometheus: GET /livez, /readyz, /healthz, /health, /metrics."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.bodies.responses import JSON
from app.api.documents.declarations import RETRY_AFTER, declare_errors
from app.api.problems import NATIVE
from app.api.routes.dependencies import LifecycleDep
from app.api.routes.schemas import ReadyResponse
from app.api.routing import declare

_READ: Final = ["GET", "HEAD"]
"""Documented as GET alone. The route with both comes first, since `Allow` names its methods."""

router = APIRouter(tags=["Health"], responses=declare_errors(NATIVE))


@router.get("/livez")
@router.api_route("/healthz", methods=_READ, include_in_schema=False)
@router.api_route("/livez", methods=_READ, include_in_schema=False)
@declare(public=True, probe=True)
async def livez() -> dict[str, str]:
    """200 while the event loop runs; asks neither the queue nor the model."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    response_model=ReadyResponse,
    responses={
        503: {
            "model": ReadyResponse,
            "description": "Loading, draining, or broken",
            "headers": RETRY_AFTER,
            "content": {JSON: {"example": {"status": "not ready"}}},
        }
    },
)
@router.api_route("/health", methods=_READ, include_in_schema=False)
@router.api_route("/readyz", methods=_READ, include_in_schema=False)
@declare(public=True, probe=True)
async def readyz(request: Request, lifecycle: LifecycleDep) -> Response:
    """200 after weights, warm-up and self-test, until draining; `?verbose` lists the checks."""
    checks = lifecycle.checks()
    verbose = {"checks": checks} if "verbose" in request.query_params else {}
    if all(checks.values()):
        return JSONResponse({"status": "ready", **verbose})
    return JSONResponse({"status": "not ready", **verbose}, 503, {"Retry-After": "1"})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@declare(probe=True)
async def metrics(lifecycle: LifecycleDep) -> Response:
    """Prometheus' text format."""
    return Response(lifecycle.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
