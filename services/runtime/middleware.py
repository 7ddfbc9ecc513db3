"""What happens to every HTTP request before a handler sees it, as plain ASGI."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from services.runtime.direct import HEADERS, headers_once
from services.runtime.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS_IN_FLIGHT, HTTP_UNHANDLED_ERRORS
from services.runtime.problems import Problem
from services.runtime.trace_context import new_traceparent, trace_id_of, valid_traceparent

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED: Final = "unmatched"
NEVER_REFUSED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
DRAIN_LIMIT_BYTES: Final = 16 * 1024 * 1024
DRAIN_TIMEOUT_S: Final = 5.0

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
        request_id, traceparent = _request_id(scope), _traceparent(scope)
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


def _request_id(scope: Scope) -> str:
    given = _only_header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"


def _traceparent(scope: Scope) -> str:
    given = _only_header(scope, b"traceparent")
    if given is not None and valid_traceparent(text := given.decode("latin-1").strip()):
        return text
    return new_traceparent()


def _only_header(scope: Scope, name: bytes) -> bytes | None:
    """The header's value, or None unless it is there exactly once."""
    once: Mapping[bytes, bytes | None] = scope[HEADERS]
    return once.get(name)


class ConcurrencyLimitMiddleware:
    """Answers 503 `unavailable` at once to a request over the limit, so that a flood does not make all of them slow.

    Health and metrics are never refused: they are asked most urgently then. uvicorn's own limit counts idle
    connections too, and answers in plain text.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NEVER_REFUSED:
            await self._app(scope, receive, send)
            return
        if self._running >= self._limit:
            detail = "More requests are being answered than this process takes at once."
            problem = Problem("unavailable", detail, retry_after_s=1)
            await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


class _BodyTooLarge(Exception):
    """Ends the reading of a body; never leaves BodyLimitMiddleware."""


class BodyLimitMiddleware:
    """Answers 413 `too_large` to a body over the limit, announced or streamed, and parses none of it.

    The framework has such a limit, but answers an announced length in plain text after the handler has run.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, limit_bytes_by_path: Mapping[str, int]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_bytes_by_path = dict(limit_bytes_by_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = self._limit_bytes_by_path.get(scope["path"], self._limit_bytes)
        announced = _only_header(scope, b"content-length")
        if announced is not None and announced.isdigit() and int(announced[:18]) > limit_bytes:
            await _answer_too_large(limit_bytes, scope, receive, send, drained=False)
            return
        if b"transfer-encoding" not in scope[HEADERS] and (announced is None or announced.isdigit()):
            # The server hands on no more than was announced, and nothing where nothing was: no need to count.
            await self._app(scope, receive, send)
            return
        received_bytes = 0
        too_large = started = complete = False

        async def counted_receive() -> Message:
            nonlocal received_bytes, too_large, complete
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received_bytes > limit_bytes:
                    too_large = True
                    raise _BodyTooLarge
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if too_large and not started:
                return  # what the handler made of half a body; ours follows
            started = True
            await send(message)

        try:
            await self._app(scope, counted_receive, guarded_send)
        except Exception:
            if not too_large or started:
                raise
        if too_large and not started:
            await _answer_too_large(limit_bytes, scope, receive, send, drained=complete)


async def _answer_too_large(limit_bytes: int, scope: Scope, receive: Receive, send: Send, *, drained: bool) -> None:
    drained = drained or await _drain(scope, receive)
    detail = f"The body is larger than {limit_bytes} bytes."
    headers = {} if drained else {"Connection": "close"}
    problem = Problem("too_large", detail, limit_bytes=limit_bytes, headers=headers)
    await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)


async def _drain(scope: Scope, receive: Receive) -> bool:
    """Throw the rest of a body away, within bounds; whether all of it came.

    A connection closed on unread bytes is reset, and many clients then never see the answer. Who sent
    `Expect: 100-continue` waits for our word and sends nothing if the answer is no.
    """
    if _only_header(scope, b"expect") is not None:
        return False
    drained_bytes = 0
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while drained_bytes <= DRAIN_LIMIT_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
                drained_bytes += len(message.get("body", b""))
    except TimeoutError:
        pass
    return False
