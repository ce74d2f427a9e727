"""Lets a route declare what the middleware must know of it, and finds the route of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final, TypeVar

from starlette.routing import BaseRoute, Mount, Route

from app.api.problems import NATIVE, ErrorFormat
from app.telemetry.metrics import UNMATCHED

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_ATTRIBUTE: Final = "__declaration__"


class Body(Enum):
    """What the body of a request to a route carries."""

    NOTHING = auto()
    ONE_IMAGE = auto()
    MANY_IMAGES = auto()


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a route declares beside what FastAPI asks.

    Attributes:
        body: decides the body's limit, and whether admission control applies.
        public: whether it is answered without an API key.
        probe: whether it is called all the time, and not worth a trace.
        path: as declared.
    """

    body: Body = Body.NOTHING
    public: bool = False
    probe: bool = False
    path: str = UNMATCHED


_UNDECLARED: Final = Declaration()


def declare(
    *, body: Body = Body.NOTHING, public: bool = False, probe: bool = False
) -> Callable[[_Endpoint], _Endpoint]:
    """Decorate an endpoint, or the application of a mount, with its declaration.

    A route without one has no body limit of its own, needs an API key, and is traced.
    """

    def attach(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, _ATTRIBUTE, Declaration(body, public, probe))
        return endpoint

    return attach


class RouteTable:
    """Every route, in the order in which the router tries them, and the error format of every path.

    The formats given are those besides the native one.
    """

    def __init__(self, routes: Iterable[BaseRoute], formats: Iterable[ErrorFormat] = ()) -> None:
        self._routes = [
            (route, _read_declaration(route))
            for route in routes
            if isinstance(route, Route | Mount)
        ]
        self._formats = {one.segment: one for one in formats}
        self.formats: Final = (NATIVE, *self._formats.values())
        # Most requests go to a path without parameters: one look-up instead of many patterns.
        self._known = {
            (method, route.path): self._search(method, route.path)
            for route, _ in self._routes
            if isinstance(route, Route)
            for method in route.methods or ()
        }

    @property
    def image_paths(self) -> frozenset[str]:
        """The paths, as declared, of routes that take images."""
        return frozenset(one.path for _, one in self._routes if one.body is not Body.NOTHING)

    def find(self, method: str, path: str) -> Declaration:
        """The declaration of the route that answers; for another method, as if it had no body."""
        return self._known.get((method, path)) or self._search(method, path)

    def find_format(self, path: str) -> ErrorFormat:
        """The error format at a path, whether or not there is a route."""
        segment = path.split("/", 2)[1] if path.startswith("/") else None
        return self._formats.get(segment, NATIVE)

    def _search(self, method: str, path: str) -> Declaration:
        partial = None
        for route, declaration in self._routes:
            if route.path_regex.match(path):
                if isinstance(route, Mount) or method in (route.methods or (method,)):
                    return declaration
                partial = partial or declaration
        return replace(partial, body=Body.NOTHING) if partial else _UNDECLARED


def _read_declaration(route: Route | Mount) -> Declaration:
    target = route.app if isinstance(route, Mount) else route.endpoint
    declaration: Declaration = getattr(target, _ATTRIBUTE, _UNDECLARED)
    return replace(declaration, path=route.path)
