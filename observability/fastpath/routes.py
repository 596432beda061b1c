"""The route of a request, as contrib's FastAPI instrumentor finds it before the application does.

Contrib matches one route after the other, as the router will again. Here all of an application's paths are one regular
expression for each method, so that the same answer is one match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from opentelemetry.instrumentation.fastapi import _get_route_details
from starlette._utils import get_route_path
from starlette.convertors import FloatConvertor, IntegerConvertor, PathConvertor, StringConvertor, UUIDConvertor
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Scope

_CONVERTORS: Final = (FloatConvertor, IntegerConvertor, PathConvertor, StringConvertor, UUIDConvertor)
_NAMED_GROUP: Final = re.compile(r"\(\?P<\w+>")
_MAX_METHODS: Final = 32


class _Paths(NamedTuple):
    """Paths in their order as one expression: the first that matches is the one of the group that matched."""

    expression: re.Pattern[str]
    routes: dict[str | None, str]

    def find(self, path: str) -> str | None:
        match = self.expression.match(path)
        return self.routes[match.lastgroup] if match is not None else None


class _Entry(NamedTuple):
    pattern: str
    methods: frozenset[str] | None
    path: str


class Routes:
    """The routes of one application. They may change while it runs; then all is made anew."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._seen: list[tuple[list[Any], list[Any]]] = []
        self._entries: list[_Entry] | None = None
        self._exact: dict[str, _Paths] = {}
        self._partial: _Paths | None = None

    def find(self, scope: Scope) -> str | None:
        """The path template of the route that a request meets; of one with another method, where there is no better.

        The same as contrib's `_get_route_details`, which is asked where a route is of a kind that is not known here.
        """
        for routes, seen in self._seen:
            if routes != seen:  # compares identities, as long as nothing has changed
                self._read()
                break
        else:
            if not self._seen:
                self._read()
        if self._entries is None:
            return _get_route_details(scope)
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        method = scope["method"]
        exact = self._exact.get(method)
        if exact is None:
            exact = self._for_method(method, self._entries)
        found = exact.find(path)
        if found is None and self._partial is not None:
            found = self._partial.find(path)
        return found

    def _read(self) -> None:
        self._seen = [(routes, list(routes)) for routes in _lists(self._app.router, set())]
        self._entries = _entries(self._app)
        self._exact = {}
        # Of several that match with another method contrib takes the last one.
        with_methods = [entry for entry in self._entries or () if entry.methods]
        self._partial = _join(reversed(with_methods)) if with_methods else None

    def _for_method(self, method: str, entries: Sequence[_Entry]) -> _Paths:
        known = any(method in entry.methods for entry in entries if entry.methods)
        paths = self._exact.get(method if known else "")
        if paths is None:
            paths = _join(entry for entry in entries if not entry.methods or method in entry.methods)
            if len(self._exact) < _MAX_METHODS:
                self._exact[method if known else ""] = paths
        return paths


def _lists(router: Any, known: set[int]) -> Iterable[list[Any]]:
    """The lists that hold the routes of a router and of those that it includes."""
    if id(router) in known:
        return
    known.add(id(router))
    yield router.routes
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _lists(included, known)


def _entries(app: FastAPI) -> list[_Entry] | None:
    entries = []
    for context in iter_route_contexts(app.routes):
        route: Any = getattr(context, "_effective_route", None)  # what contrib's matching ends up with
        matches = getattr(type(route), "matches", None)
        if matches in (WebSocketRoute.matches, APIWebSocketRoute.matches):
            continue  # matches no request
        if matches is Mount.matches:
            methods = None
        elif matches in (Route.matches, APIRoute.matches) or isinstance(
            getattr(route, "original_route", None), APIRoute
        ):
            methods = frozenset(route.methods) if route.methods else None
        else:
            return None
        if not all(type(convertor) in _CONVERTORS for convertor in route.param_convertors.values()):
            return None  # its conversion may fail, and its expression may be any
        entries.append(_Entry(route.path_regex.pattern, methods, route.path))
    return entries


def _join(entries: Iterable[_Entry]) -> _Paths:
    routes: dict[str | None, str] = {}
    alternatives = []
    for number, entry in enumerate(entries):
        group = f"_{number}"
        routes[group] = entry.path
        pattern = _NAMED_GROUP.sub("(?:", entry.pattern).removeprefix("^")
        alternatives.append(f"(?P<{group}>{pattern})")
    return _Paths(re.compile("|".join(alternatives) or r"(?!)"), routes)
