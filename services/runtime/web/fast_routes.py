"""Routes that FastAPI describes and we run: for the paths that every message takes.

FastAPI's way to a handler (the path matched twice, two exit stacks, dependencies solved, a response model) costs
several times what our handlers do themselves. A `FastRoute` is declared like any other, so that OpenAPI, 405 and the
metrics know it, with a signature that says what it takes; but its requests come to `respond`, which reads the path
and the headers itself. The layer `FastRoutes`, the innermost of `http.build_app`, takes them there at once; what
FastAPI's own router leads to the route is answered by the same `respond`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from fastapi import Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.web.problems import Problem

MAX_QUERY_BYTES: Final = 2_048
MAX_QUERY_PARAMETERS: Final = 32
"""Far more than any path takes. Beyond, the query string is refused before it is parsed: each parameter that is not
known would become an error of its own, whether or not it is reported."""

HEADERS: Final = "gapless.headers"
"""Key of the scope: name → value of each header that is there once, made by RequestContextMiddleware. None for one
that came in several lines."""


def headers_once(scope: Scope) -> dict[bytes, bytes | None]:
    """The headers by name, in lower case as ASGI has them. None where a name came in several lines."""
    return once_each(scope["headers"])


def once_each(lines: list[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
    """Header lines by name. None where a name came in several lines."""
    found: dict[bytes, bytes | None] = dict(lines)
    if len(found) != len(lines):
        seen: set[bytes] = set()
        for name, _ in lines:
            if name in seen:
                found[name] = None
            seen.add(name)
    return found


def only_header(scope: Scope, name: bytes) -> bytes | None:
    """The header's value, or None unless it is there exactly once."""
    once: dict[bytes, bytes | None] = scope[HEADERS]
    return once.get(name)


class FastRequest:
    """A request as it came. The body is read when it is asked for."""

    __slots__ = ("_once", "path_params", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive, path_params: dict[str, str]) -> None:
        self.scope = scope
        self.receive = receive
        """After the body, it returns when the client has hung up."""
        self.path_params = path_params
        self._once: dict[bytes, bytes | None] = scope.get(HEADERS) or headers_once(scope)

    def header(self, name: bytes) -> str | None:
        """The value of the header, of its first line where there are several. The name is in lower case."""
        if name not in self._once:
            return None
        value = self._once[name]
        return value.decode("latin-1") if value is not None else self.header_lines(name)[0]

    def header_lines(self, name: bytes) -> list[str]:
        """The values of all its lines."""
        if name not in self._once:
            return []
        value = self._once[name]
        if value is not None:
            return [value.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == name]

    async def body(self) -> bytes:
        """All of it. Raises Problem `malformed` where the client hung up within it; nobody reads that."""
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            return body
        pieces = [body]
        while message["type"] == "http.request" and message.get("more_body", False):
            message = await self.receive()
            pieces.append(message.get("body", b""))
        if message["type"] != "http.request":
            raise Problem("malformed", "The body broke off.")
        return b"".join(pieces)


class FastResponse(NamedTuple):
    """An answer as it goes out."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case, values in latin-1; with content-length."""
    body: bytes


class NotFastPath(Exception):
    """Raised by `respond` for a request that FastAPI is to answer in its own way: one with something wrong in it, say,
    that FastAPI describes well. Only before the body is read."""


class FastRoute(APIRoute):
    """Subclasses say how a request is answered; the endpoint's signature says it to OpenAPI."""

    async def respond(self, request: FastRequest) -> FastResponse:
        """Raises Problem, which becomes the response, or NotFastPath: then FastAPI's own handler answers."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handler(request: Request) -> Response:
            answer = await self.respond(FastRequest(request.scope, request.receive, request.path_params))
            response = Response(answer.body, answer.status)
            response.raw_headers = list(answer.headers)
            return response

        return handler


Candidates = dict[tuple[str, int], list[tuple[re.Pattern[str], FastRoute]]]
"""(method, slashes in the path) → the routes that may fit, in the order of their declaration."""


class FastRoutes:
    """Leads requests of fast routes to them, and all others on; refuses query strings that are not worth parsing.

    The routes are gathered at the first request: those of routers that are included later are found by FastAPI.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._candidates: Candidates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query: bytes = scope.get("query_string", b"")
        if query and (len(query) > MAX_QUERY_BYTES or query.count(b"&") >= MAX_QUERY_PARAMETERS):
            await _refuse(_query_too_long(), scope, receive, send)
            return
        if scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        if self._candidates is None:
            self._candidates = _candidates(scope["app"].routes)
        path: str = scope["path"]
        for pattern, route in self._candidates.get((scope["method"], path.count("/")), ()):
            match = pattern.match(path)
            if match is not None:
                scope["route"] = route
                try:
                    await _respond(route, FastRequest(scope, receive, match.groupdict()), send)
                except NotFastPath:
                    break
                return
        await self._app(scope, receive, send)


async def _respond(route: FastRoute, request: FastRequest, send: Send) -> None:
    try:
        status, headers, body = await route.respond(request)
    except Problem as problem:
        await _refuse(problem, request.scope, request.receive, send)
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    request_id = scope.get("state", {}).get("request_id")
    await problem.response(request_id=request_id)(scope, receive, send)


def _query_too_long() -> Problem:
    detail = f"A query string has at most {MAX_QUERY_BYTES} bytes and {MAX_QUERY_PARAMETERS} parameters."
    return Problem("uri_too_long", detail)


def _candidates(routes: list[Any]) -> Candidates:
    found: Candidates = {}
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, FastRoute) and context.path is not None:
            for method in context.methods or ():
                place = found.setdefault((method, context.path.count("/")), [])
                place.append((context.path_regex, route))
    return found
