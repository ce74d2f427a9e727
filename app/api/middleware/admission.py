"""Admission control: refuses a request early, or bounds its body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware.body import HeldBytes, RequestBody
from app.api.routing import Body, RouteTable
from app.errors import BodyTooLargeError, InvalidParameterError

_HELD_BODIES = 2
"""How many bodies of the largest size fit into the memory that all bodies share."""


class AdmissionControl:
    """Guards the routes that take images; their refusals come before routing, the body unread.

    `check_admission` raises if the service can take no more now.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: RouteTable,
        check_admission: Callable[[], None],
        max_body_bytes: Mapping[Body, int],
        body_timeout_s: float,
    ) -> None:
        self._app = app
        self._routes = routes
        self._check_admission = check_admission
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._held = HeldBytes(_HELD_BODIES * max(max_body_bytes.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request for images; anything else passes through.

        Raises:
            AppError: the request is refused.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._routes.find(scope["method"], scope["path"])
        if route.body is Body.NOTHING:
            await self._app(scope, receive, send)
            return
        scope["state"]["record"].route = route.path
        limit = self._max_body_bytes[route.body]
        _check_head(scope, limit)
        self._check_admission()
        with self._held.share(of_many=route.body is Body.MANY_IMAGES) as share:
            body = RequestBody(receive, limit, share, self._body_timeout_s)
            await body.run(self._app, scope, send)


def _check_head(scope: Scope, max_body_bytes: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_body_bytes:
            raise BodyTooLargeError
    # A parameter given twice has no one meaning.
    if b"&" in (query := scope["query_string"]):
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise InvalidParameterError("A query parameter is given more than once.")
