"""The outermost middleware of every HTTP request, as plain ASGI."""

from __future__ import annotations

import re
import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from services.runtime.observe.metrics import (
    HTTP_REQUEST_SECONDS,
    HTTP_REQUESTS_IN_FLIGHT,
    HTTP_UNHANDLED_ERRORS,
    UNMATCHED,
)
from services.runtime.observe.trace_context import trace_id_of
from services.runtime.web.allowed_methods import METHODS
from services.runtime.web.headers import HEADERS, headers_once, only_header
from services.runtime.web.problems import Problem
from services.runtime.web.request_ids import request_id_of, traceparent_of

NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
PRIVATE: Final = (b"cache-control", b"private, no-store")
_ENCODED_SLASH: Final = re.compile(rb"%2[fF]")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")

# structlog's own `bind_contextvars` looks these up by name at each call; we do so once.
_LOGGED_REQUEST_ID: Final[ContextVar[Any]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id", default=Ellipsis)
_LOGGED_TRACE_ID: Final[ContextVar[Any]] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}trace_id", default=Ellipsis)

_log = structlog.get_logger(__name__)


_RESPONSE_HEADERS: Final = "response_headers"
"""Key in the request's state: the headers that every response to the request gets."""


def set_response_header(scope: Scope, name: bytes, value: bytes) -> None:
    """Set a header of whatever response the request gets, a problem included. The name is lower-case."""
    headers: list[tuple[bytes, bytes]] = scope["state"][_RESPONSE_HEADERS]
    headers[:] = [header for header in headers if header[0] != name]
    headers.append((name, value))


class _InFlight:
    """A counter without a metric's lock, read only when metrics are scraped."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


_IN_FLIGHT: Final = _InFlight()
HTTP_REQUESTS_IN_FLIGHT.set_function(lambda: _IN_FLIGHT.requests)


class RequestContextMiddleware:
    """Assigns each request its ids, measures it, and responds to uncaught exceptions.

    HEAD is answered as GET without the body. `%2F` stays encoded in the path that routes are matched against, so that
    it is not a separator. Responses are private unless they say otherwise. `X-Request-Id` is adopted if it is 1-128
    visible ASCII characters, `traceparent` if it is valid W3C; otherwise new ones are generated. Both are in
    `scope["state"]`, in the log context and in the response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            _show_errors_of_none(scope)
            await self._app(scope, receive, send)
            return
        once = scope[HEADERS] = headers_once(scope)
        request_id = request_id_of(once.get(b"x-request-id"))
        traceparent = traceparent_of(once.get(b"traceparent"), request_id)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"], state["traceparent"] = request_id, traceparent
        bound_id, bound_trace = _LOGGED_REQUEST_ID.set(request_id), _LOGGED_TRACE_ID.set(trace_id_of(traceparent))
        try:
            if scope["type"] == "websocket":  # lives for hours, so it is not timed
                await self._app(scope, receive, send)
            else:
                await self._http(scope, receive, send)
        finally:
            _LOGGED_REQUEST_ID.reset(bound_id)
            _LOGGED_TRACE_ID.reset(bound_trace)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        method: str = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}  # a copy: by its own scope the server decides whether to send a body
        raw_path = scope.get("raw_path") or b""
        if b"%2" in raw_path:
            scope["path"] = path_of(raw_path)
        added = [
            (b"x-request-id", state["request_id"].encode("ascii")),
            (b"traceparent", state["traceparent"].encode("ascii")),
            NO_SNIFFING,
        ]
        state[_RESPONSE_HEADERS] = added
        status = 0

        async def send_with_ids(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *added]
                for name, _ in headers:
                    if name == b"cache-control":
                        break
                else:
                    headers.append(PRIVATE)
                message["headers"] = headers
            elif is_head:
                message["body"] = b""
            await send(message)

        started_at_s = time.perf_counter()
        _IN_FLIGHT.requests += 1
        try:
            if scope["http_version"] != "1.0" and not _is_host(only_header(scope, b"host")):
                await _answer_wrong_host(scope, receive, send_with_ids)
            else:
                await self._app(scope, receive, send_with_ids)
        except Exception as error:
            if status:
                _log_unexpected(error, scope)
                raise  # part of the response is sent: the connection must break, or the client would take it as whole
            await _answer_unexpected(error, scope, receive, send_with_ids)
        finally:
            _IN_FLIGHT.requests -= 1
            known = method if method in METHODS else "other"
            _seconds_of(known, _route(scope), status).observe(time.perf_counter() - started_at_s)


class UnexpectedErrorMiddleware:
    """Responds to uncaught exceptions inside the CORS middleware, so that the response gets its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await _answer_unexpected(error, scope, receive, send)


def path_of(raw_path: bytes) -> str:
    """Return the decoded path, in which `%2F` stays encoded."""
    return unquote(_ENCODED_SLASH.sub(b"%252F", raw_path).decode("ascii"))


@lru_cache(maxsize=1_024)
def _is_host(value: bytes | None) -> bool:
    return value is not None and _HOST.fullmatch(value) is not None


async def _answer_wrong_host(scope: Scope, receive: Receive, send: Send) -> None:
    detail = "An HTTP/1.1 request has the header Host exactly once, with a host name and perhaps a port."
    problem = Problem("malformed", detail, headers={"Connection": "close"})
    await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)


def _log_unexpected(error: Exception, scope: Scope) -> None:
    HTTP_UNHANDLED_ERRORS.labels(route=_route(scope)).inc()
    _log.error("request_failed", method=scope["method"], route=_route(scope), exc_info=error)


async def _answer_unexpected(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    _log_unexpected(error, scope)
    problem = Problem("internal", "This request could not be answered; its id is in our log.")
    await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)


@lru_cache(maxsize=4_096)
def _seconds_of(method: str, route: str, status: int) -> Histogram:
    """Return the series of these labels, cached: finding it costs more than adding to it. One per route and status."""
    return HTTP_REQUEST_SECONDS.labels(method=method, route=route, status=status or "none")


def _show_errors_of_none(scope: Scope) -> None:
    """Expose the counter of each route as 0 when the application starts."""
    for path in {getattr(route, "path", None) for route in getattr(scope.get("app"), "routes", ())} - {None}:
        HTTP_UNHANDLED_ERRORS.labels(route=path)


def _route(scope: Scope) -> str:
    """Return the path's template (`/v1/chats/{chat_id}`), so that the number of series does not grow with chats."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED
