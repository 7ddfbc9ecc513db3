"""Routes that FastAPI documents and we dispatch ourselves, for the paths that every message takes.

FastAPI's dispatch (the path matched twice, two exit stacks, dependencies solved, a response model) costs several times
what our handlers do. A `FastRoute` is declared like any other route, so that OpenAPI, 405 responses and metrics know
it, with a signature that documents its parameters; but its requests go to `respond`, which reads the path and the
headers itself. The layer `FastRoutes`, the innermost of `http.build_app`, dispatches them; a request that reaches
the route through FastAPI's router is answered by the same `respond`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.web.headers import HEADERS, headers_once
from services.runtime.web.problems import Problem, refuse
from services.runtime.web.query_strings import is_excessive, query_too_long


class FastRequest:
    """A request as received. The body is read on demand."""

    __slots__ = ("_once", "path_params", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive, path_params: dict[str, str]) -> None:
        self.scope = scope
        self.receive = receive
        """ASGI's receive. After the body, it returns when the client has disconnected."""
        self.path_params = path_params
        self._once: dict[bytes, bytes | None] = scope.get(HEADERS) or headers_once(scope)

    def header(self, name: bytes) -> str | None:
        """Return the header's value, of its first line if there are several; None if absent. The name is lower-case."""
        if name not in self._once:
            return None
        value = self._once[name]
        return value.decode("latin-1") if value is not None else self.header_lines(name)[0]

    def header_lines(self, name: bytes) -> list[str]:
        """Return the values of all lines of the header."""
        if name not in self._once:
            return []
        value = self._once[name]
        if value is not None:
            return [value.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == name]

    async def body(self) -> bytes:
        """Return the whole body. Raises Problem `malformed`, which no client reads, if it disconnected within it."""
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
    """A response to send."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Lower-case names and latin-1 values; includes content-length."""
    body: bytes


class NotFastPath(Exception):
    """Raised by `respond` to leave a request to FastAPI, for example an invalid one, which FastAPI describes well. May
    be raised only before the body is read."""


class FastRoute(APIRoute):
    """A route whose subclasses implement `respond`. The endpoint's signature only documents it for OpenAPI."""

    async def respond(self, request: FastRequest) -> FastResponse | Response:
        """Respond to a request, with a Response if it is one that lasts. Raises Problem, or NotFastPath if the subclass
        also keeps FastAPI's handler."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handler(request: Request) -> Response:
            answer = await self.respond(FastRequest(request.scope, request.receive, request.path_params))
            if isinstance(answer, Response):
                return answer
            response = Response(answer.body, answer.status)
            response.raw_headers = list(answer.headers)
            return response

        return handler


Candidates = dict[tuple[str, int], list[tuple[re.Pattern[str], FastRoute]]]
"""(method, number of slashes in the path) → the routes that may match, in order of declaration."""


class FastRoutes:
    """Dispatches requests to fast routes and passes all others on; refuses excessive query strings.

    The routes are collected at the first request. FastAPI dispatches those of routers that are included later.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._candidates: Candidates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query: bytes = scope.get("query_string", b"")
        if query and is_excessive(query):
            await refuse(query_too_long(), scope, receive, send)
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
        answer = await route.respond(request)
    except Problem as problem:
        await refuse(problem, request.scope, request.receive, send)
        return
    if isinstance(answer, Response):
        await answer(request.scope, request.receive, send)
        return
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _candidates(routes: list[Any]) -> Candidates:
    found: Candidates = {}
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, FastRoute) and context.path is not None:
            for method in context.methods or ():
                place = found.setdefault((method, context.path.count("/")), [])
                place.append((context.path_regex, route))
    return found
