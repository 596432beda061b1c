"""The route of a request is the one that contrib's instrumentor finds by asking one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.fastapi import _get_route_details
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES, StringConvertor
from starlette.routing import BaseRoute, Host, Match, Route

from observability.fastpath.routes import Routes

_SEGMENTS = ["a", "b", "{x}", "{x:int}", "{x:float}", "{x:path}", "{x:uuid}", "a.b", "{x}-b", "(a)"]
_VALUES = ["a", "b", "1", "1.5", "a.b", "axb", "", "a-b", "(a)", "\n", "0af76519-16cd-43dd-8448-eb211c80319c"]
_METHODS = ["GET", "POST", "BREW"]


def _nothing() -> None:
    """Stands for any endpoint."""


def _template(segments: list[str]) -> str:
    return "".join(f"/{segment.replace('x', f'x{number}')}" for number, segment in enumerate(segments))


_templates = st.lists(st.sampled_from(_SEGMENTS), min_size=1, max_size=3).map(_template)
_kinds = st.sampled_from(["api", "api", "route", "any", "mount", "websocket", "include"])


def _application(routes: list[tuple[str, str, list[str]]]) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for kind, template, methods in routes:
        match kind:
            case "api":
                app.add_api_route(template, _nothing, methods=methods)
            case "route":
                app.router.routes.append(Route(template, _nothing, methods=methods))
            case "any":
                app.router.routes.append(Route(template, lambda _scope, _receive, _send: None))
            case "mount":
                app.mount(template, Starlette())
            case "websocket":
                app.add_api_websocket_route(template, _nothing)
            case "include":
                router, inner = APIRouter(), APIRouter()
                inner.add_api_route(template, _nothing, methods=methods)
                router.include_router(inner, prefix="/b")
                app.include_router(router, prefix="/a")
    return app


def _scope(app: FastAPI, path: str, method: str, root_path: str) -> dict[str, Any]:
    return {"type": "http", "app": app, "path": path, "method": method, "root_path": root_path, "headers": []}


@given(
    st.lists(st.tuples(_kinds, _templates, st.lists(st.sampled_from(_METHODS), min_size=1, unique=True)), max_size=6),
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(_VALUES), max_size=4).map(lambda values: "/" + "/".join(values)),
            st.sampled_from([*_METHODS, "get", ""]),
            st.sampled_from(["", "/a"]),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_same_as_contrib(routes: list[tuple[str, str, list[str]]], requests: list[tuple[str, str, str]]) -> None:
    """Whatever the routes and the request, full matches, partial ones and none are the same."""
    app = _application(routes)
    found = Routes(app)
    for path, method, root_path in requests:
        scope = _scope(app, path, method, root_path)
        assert found.find(dict(scope)) == _get_route_details(scope)


class _Own(BaseRoute):
    path = "/own"

    def matches(self, scope: Any) -> tuple[Match, Any]:
        return (Match.FULL if scope["path"].endswith("own") else Match.NONE), {}


class _Loud(Route):
    def matches(self, scope: Any) -> tuple[Match, Any]:
        return super().matches({**scope, "path": scope["path"].lower()})


@pytest.mark.parametrize("route", [_Own(), _Loud("/own", _nothing), Host("own", Starlette())])
def test_unknown_kinds(route: BaseRoute) -> None:
    """Where a route matches in a way of its own, contrib is asked."""
    app = FastAPI()
    app.router.routes.insert(0, route)
    routes = Routes(app)
    for path in ("/own", "/OWN", "/docs"):
        scope = {**_scope(app, path, "GET", ""), "headers": [(b"host", b"own")]}
        assert routes.find(dict(scope)) == _get_route_details(scope)
    assert routes._entries is None


def test_own_convertor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convertor of the application may have any expression, and may fail: contrib is asked."""

    class Even(StringConvertor):
        regex = "(?P<even>a|b)+"

    monkeypatch.setitem(CONVERTOR_TYPES, "even", Even())
    app = FastAPI()
    app.router.routes.append(Route("/{x:even}", _nothing))
    routes = Routes(app)
    routes.find(_scope(app, "/docs", "GET", ""))
    assert routes._entries is None


def test_changes() -> None:
    """Routes that are added, also to a router that is included, replaced or removed, are seen by the next request."""
    app, router = FastAPI(openapi_url=None), APIRouter()
    app.include_router(router, prefix="/a")
    routes = Routes(app)

    def find(path: str) -> str | None:
        scope = _scope(app, path, "GET", "")
        found = routes.find(scope)
        assert found == _get_route_details(scope)
        return found

    assert find("/a/b") is None
    router.add_api_route("/{x}", _nothing)
    assert find("/a/b") == "/a/{x}"
    app.add_api_route("/b", _nothing)
    assert find("/b") == "/b"
    app.router.routes[-1] = Route("/{y}", _nothing)
    assert find("/b") == "/{y}"
    app.router.routes.clear()
    assert find("/b") is None


def test_many_methods_are_bounded() -> None:
    """What is remembered of methods is bounded, however many a stranger thinks of."""
    app = FastAPI()
    app.router.routes.append(Route("/all", lambda _scope, _receive, _send: None))
    routes = Routes(app)
    for number in range(1000):
        assert routes.find(_scope(app, "/all", f"M{number}", "")) == "/all"
    assert len(routes._exact) == 1
