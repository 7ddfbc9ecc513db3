"""Which browsers may call, and what their scripts may read: Starlette's CORS, with accurate preflight responses."""

from __future__ import annotations

from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.web.allowed_methods import METHODS, methods_at
from services.runtime.web.problems import Problem

ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Gapless-At-Least",
    "Gapless-Sender",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
    "traceparent",
)
EXPOSED_HEADERS: Final = (
    "Accept",
    "Accept-Encoding",
    "Allow",
    "ETag",
    "Gapless-Token",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
    "traceparent",
)
"""Every response header that scripts may not read by default."""


class CorsMiddleware(CORSMiddleware):
    """Answers a preflight with the methods of its path, and refuses it with a problem document."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(scope, headers)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope, headers: Headers) -> Response:
        told = self.preflight_headers | {"Access-Control-Allow-Methods": ", ".join(methods_at(scope) or METHODS)}
        if self.is_allowed_origin(headers["origin"]):
            told.setdefault("Access-Control-Allow-Origin", headers["origin"])
            return Response(status_code=204, headers=told)  # the browser sends nothing that is not listed
        kept: dict[str, Any] = {"Vary": told["Vary"]}
        problem = Problem("forbidden", "Pages of this origin may not call this server.", headers=kept)
        return problem.response(request_id=scope["state"]["request_id"])
