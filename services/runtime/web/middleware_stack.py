"""The middleware of every HTTP application, from the outside in. Plain ASGI, because every message passes through it.

Request context (ids, metrics, the last handler of unexpected errors), CORS, request bodies, the limits on concurrent
requests. `http.build_app` adds the fast path to fast routes.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.middleware import Middleware

from services.runtime.settings import HttpSettings
from services.runtime.web.concurrency import ConcurrencyLimitMiddleware
from services.runtime.web.cors import CorsMiddleware
from services.runtime.web.middleware import RequestContextMiddleware, UnexpectedErrorMiddleware
from services.runtime.web.request_bodies import RequestBodyMiddleware


def middleware_of(http: HttpSettings, body_limit_bytes_by_path: Mapping[str, int]) -> list[Middleware]:
    """Return the middleware for these settings."""
    cors: list[Middleware] = []
    if http.cors_origins:
        # Errors are answered inside the CORS layer, so that a browser's script can read them too.
        cors = [Middleware(CorsMiddleware, origins=http.cors_origins), Middleware(UnexpectedErrorMiddleware)]
    return [
        Middleware(RequestContextMiddleware),
        *cors,
        Middleware(
            RequestBodyMiddleware,
            limit_bytes=http.body_limit_bytes,
            limit_bytes_by_path=body_limit_bytes_by_path,
            timeout_s=http.body_timeout_s,
            memory_bytes=http.body_memory_bytes,
        ),
        Middleware(
            ConcurrencyLimitMiddleware,
            limit=http.max_concurrent_requests,
            limit_per_caller=http.concurrent_requests_per_caller,
        ),
    ]
