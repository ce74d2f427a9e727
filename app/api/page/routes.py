"""The page at /, its files, and GET /live, which it watches."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import cache
from os import PathLike, stat_result
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from app.api.page.live import Live

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
    # Kept, but asked for anew each time: an update must not meet a browser's old half.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


class _PageFiles(StaticFiles):
    """The page's files, each with an ETag, and headers that keep all but its own out."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file, or 304 when the client has it."""
        headers = {**_HEADERS, "ETag": _digest(str(full_path), stat_result.st_mtime_ns)}
        response = FileResponse(full_path, status_code, headers, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


@cache
def _digest(path: str, _: int) -> str:
    """An ETag of what is in a file: two builds may give two contents one time and one size."""
    return f'"{hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]}"'


_files: Final = _PageFiles(directory=_DIRECTORY)


def add_page(app: FastAPI) -> None:
    """Serve the page, its files and /live."""
    app.include_router(router)
    app.mount("/static", _files)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page."""
    return await _files.get_response("index.html", request.scope)


async def _take_seat(request: Request) -> AsyncIterator[Live]:
    live: Live = request.app.state.live
    with live.seat():
        request.state.watches = True
        yield live


@router.get("/live", response_class=EventSourceResponse)
async def live(seat: Annotated[Live, Depends(_take_seat)]) -> AsyncIterator[ServerSentEvent]:
    """What the service does, once a second, as server-sent events."""
    async for snapshot in seat.watch():
        yield ServerSentEvent(raw_data=snapshot)
