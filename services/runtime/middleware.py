"""What happens to every HTTP request before a handler sees it, as plain ASGI."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from services.runtime.direct import HEADERS, headers_once, only_header
from services.runtime.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS_IN_FLIGHT, HTTP_UNHANDLED_ERRORS
from services.runtime.problems import Problem
from services.runtime.request_ids import request_id_of, traceparent_of
from services.runtime.trace_context import trace_id_of

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED: Final = "unmatched"

# structlog's own `bind_contextvars` finds these by name at each call; ours are found once.
_LOGGED_REQUEST_ID: Final[ContextVar[Any]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id", default=Ellipsis)
_LOGGED_TRACE_ID: Final[ContextVar[Any]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}trace_id", default=Ellipsis)

_log = structlog.get_logger(__name__)


class RequestContextMiddleware:
    """Gives each request its ids, measures it, and answers for what nobody else caught.

    `X-Request-Id` is taken over if it is 1-128 visible ASCII characters, `traceparent` if it is valid W3C; else
    fresh ones are made. Both are in `scope["state"]`, in the log context and in the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope[HEADERS] = headers_once(scope)
        request_id = request_id_of(only_header(scope, b"x-request-id"))
        traceparent = traceparent_of(only_header(scope, b"traceparent"))
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"], state["traceparent"] = request_id, traceparent
        bound_id, bound_trace = _LOGGED_REQUEST_ID.set(request_id), _LOGGED_TRACE_ID.set(trace_id_of(traceparent))
        try:
            if scope["type"] == "websocket":  # lives for hours: it is no request to be timed
                await self._app(scope, receive, send)
            else:
                await self._http(scope, receive, send)
        finally:
            _LOGGED_REQUEST_ID.reset(bound_id)
            _LOGGED_TRACE_ID.reset(bound_trace)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        added = [
            (b"x-request-id", state["request_id"].encode("ascii")),
            (b"traceparent", state["traceparent"].encode("ascii")),
        ]
        status = 0

        async def send_with_ids(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        started_at_s = time.perf_counter()
        HTTP_REQUESTS_IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, send_with_ids)
        except Exception as error:
            HTTP_UNHANDLED_ERRORS.labels(route=_route(scope)).inc()
            _log.error("request_failed", method=scope["method"], route=_route(scope), exc_info=error)
            if status:
                raise  # half an answer is out: the connection must break, so that nobody takes it for a whole one
            problem = Problem("internal", "This request could not be answered; its id is in our log.")
            await problem.response(request_id=state["request_id"])(scope, receive, send_with_ids)
        finally:
            HTTP_REQUESTS_IN_FLIGHT.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _seconds_of(method, _route(scope), status).observe(time.perf_counter() - started_at_s)


@lru_cache(maxsize=4_096)
def _seconds_of(method: str, route: str, status: int) -> Histogram:
    """Kept: to find a series by its labels takes longer than to add to it. There are as many as routes and statuses."""
    return HTTP_REQUEST_SECONDS.labels(method=method, route=route, status=status or "none")


def _route(scope: Scope) -> str:
    """The template of the path (`/v1/chats/{chat_id}`), so that metrics do not grow with the chats."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED
