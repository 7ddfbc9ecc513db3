"""The limit on query strings, which is checked before one is parsed."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.web.problems import Problem, refuse

MAX_QUERY_BYTES: Final = 2_048
MAX_QUERY_PARAMETERS: Final = 32
"""Far more than any path takes. A longer query string is refused before it is parsed: each unknown parameter would
become an error of its own, whether or not it is reported."""


def is_excessive(query: bytes) -> bool:
    """Return whether the query string is beyond the limit."""
    return len(query) > MAX_QUERY_BYTES or query.count(b"&") >= MAX_QUERY_PARAMETERS


def query_too_long() -> Problem:
    """Return the problem for such a query string."""
    detail = f"A query string has at most {MAX_QUERY_BYTES} bytes and {MAX_QUERY_PARAMETERS} parameters."
    return Problem("uri_too_long", detail)


class QueryLimitMiddleware:
    """Refuses excessive query strings, for an application without `fast_routes`, which do this themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_excessive(scope.get("query_string", b"")):
            await refuse(query_too_long(), scope, receive, send)
        else:
            await self._app(scope, receive, send)
