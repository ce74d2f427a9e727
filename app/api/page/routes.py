"""Serves the page at /, its files, and GET /live, which it watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from os import PathLike, stat_result
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from app.api.bodies.responses import create_etag
from app.api.page.live import Live
from app.api.parts import get_parts
from app.api.routing import declare

_DIRECTORY: Final = Path(__file__).parent / "static"
_ONLY_ITS_OWN: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(_ONLY_ITS_OWN),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Cached, but revalidated each time: an update must not mix with a browser's old files.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@declare(public=True)
class _PageFiles(StaticFiles):
    """The page's files, each with an ETag, and headers that keep out all but its own."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Answer with the file, or with 304 when the client has it."""
        headers = {**_HEADERS, "ETag": _read_etag(str(full_path), stat_result.st_mtime_ns)}
        response = FileResponse(full_path, status_code, headers, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


@cache
def _read_etag(path: str, _: int) -> str:
    """By a file's content: two builds may give different contents the same time and size."""
    return create_etag(Path(path).read_bytes())


STATIC: Final = "/static"
files: Final = _PageFiles(directory=_DIRECTORY)


@router.api_route("/", methods=["GET", "HEAD"])
@declare(public=True)
async def page(request: Request) -> Response:
    """The page."""
    return await files.get_response("index.html", request.scope)


async def _watch(request: Request) -> AsyncIterator[Live]:
    live = get_parts(request.app).live
    with live.admit():
        request.state.record.timed = False  # a viewer stays for as long as it likes
        yield live


@router.get("/live", response_class=EventSourceResponse)
async def live(watched: Annotated[Live, Depends(_watch)]) -> AsyncIterator[ServerSentEvent]:
    """What the service does, once a second, as server-sent events."""
    async for snapshot in watched.watch():
        yield ServerSentEvent(raw_data=snapshot)
