"""Limits the number of concurrent requests: of the process, and of one caller."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.web.headers import only_header
from services.runtime.web.problems import Problem

NEVER_REFUSED: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class ConcurrencyLimitMiddleware:
    """Responds immediately with 503 `unavailable` to requests over the limit, so that a flood does not slow all of them
    down, and with 429 `rate_limited` to a caller whose share of the limit is in use.

    A caller is identified by its token; requests without one are not counted per caller, since each of them is refused
    quickly. Health and metrics are never refused: under overload they matter most. uvicorn's own limit also counts
    idle connections, and responds in plain text.
    """

    def __init__(self, app: ASGIApp, *, limit: int, limit_per_caller: int) -> None:
        self._app = app
        self._limit = limit
        self._limit_per_caller = limit_per_caller
        self._running = 0
        self._running_of: dict[bytes, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NEVER_REFUSED:
            await self._app(scope, receive, send)
            return
        caller = only_header(scope, b"authorization") or b""
        of_caller = self._running_of.get(caller, 0)
        if self._running >= self._limit:
            detail = "More requests are being answered than this process takes at once."
            await _refuse(Problem("unavailable", detail, retry_after_s=1), scope, receive, send)
            return
        if of_caller >= self._limit_per_caller and caller:
            detail = f"{self._limit_per_caller} requests with your token are being answered: wait for one of them."
            await _refuse(Problem("rate_limited", detail, retry_after_s=1), scope, receive, send)
            return
        self._running += 1
        self._running_of[caller] = of_caller + 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            left = self._running_of[caller] - 1
            if left:
                self._running_of[caller] = left
            else:
                del self._running_of[caller]


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)
