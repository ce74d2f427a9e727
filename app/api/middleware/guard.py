"""What a request to a route that takes images is refused with, its body unread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.routing import compile_path

from app.errors import AppError, BodyTooLargeError, InvalidParameterError, OverloadedError


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route that takes images: its path as declared, and the bytes of a body at most."""

    path: str
    max_body_bytes: int


class Guard:
    """Knows the routes that take images, and who may enter.

    Args:
        check_admission: raises what a request is refused with now.
        check_key: raises what a request is refused with that has no key.
        origins: of pages that read refusals too, which only the application's carry headers for.
        max_body_bytes: by route, as its path is declared; other routes are not guarded.

    Attributes:
        max_body_bytes: of the route that allows most.
        least_body_bytes: of the one that allows least, for a single picture.
    """

    def __init__(
        self,
        *,
        check_admission: Callable[[], None],
        max_body_bytes: Mapping[str, int],
        check_key: Callable[[Mapping[str, Any]], None] = lambda _: None,
        origins: Iterable[str] = (),
    ) -> None:
        self._check_admission = check_admission
        self.max_body_bytes = max(max_body_bytes.values(), default=0)
        self.least_body_bytes = min(max_body_bytes.values(), default=0)
        self._check_key = check_key
        self._origins = {(b"origin", origin.encode()) for origin in origins}
        # What matches is a route's own affair: a path that ends in a line break matches too.
        self._routes = [
            (compile_path(path)[0], GuardedRoute(path, limit))
            for path, limit in max_body_bytes.items()
        ]

    def find(self, scope: Mapping[str, Any]) -> GuardedRoute | None:
        """The guarded route that a request goes to, if it does."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path = scope["path"]
        return next((route for pattern, route in self._routes if pattern.match(path)), None)

    def check(self, scope: Mapping[str, Any], route: GuardedRoute) -> None:
        """Let a request in.

        Raises:
            AppError: why not.
        """
        _check_head(scope, route.max_body_bytes)
        self._check_admission()

    def find_overload(
        self, scope: Mapping[str, Any]
    ) -> tuple[GuardedRoute, OverloadedError] | None:
        """Whether overload is all that a request is refused for, and where it goes to."""
        with suppress(AppError):  # whatever else is wrong, the application says it
            try:
                self._check_admission()
            except OverloadedError as error:
                if (route := self.find(scope)) and self._origins.isdisjoint(scope["headers"]):
                    self._check_key(scope)
                    _check_head(scope, route.max_body_bytes)
                    # Its frames hold it: for each refusal, a circle for the garbage collector.
                    return route, error.with_traceback(None)
        return None


def _check_head(scope: Mapping[str, Any], max_body_bytes: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_body_bytes:
            raise BodyTooLargeError
    # A parameter given twice has no one meaning.
    if b"&" in (query := scope["query_string"]):
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise InvalidParameterError("A query parameter is given more than once.")
