"""The HTTP application of a service, with everything that all of them share already in place.

`build_app` wires, from the outside in: CORS, request context (request id, trace context, metrics, the last
catch of unexpected errors), the reading of bodies, the limits of requests at once, the short way to direct routes,
problem documents, health, OpenAPI. The middleware is plain ASGI, because it is on the way of every message. What a
handler may read: `request.state.request_id`, `request.state.traceparent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from services.runtime.auth import Authenticator
from services.runtime.concurrency import ConcurrencyLimitMiddleware
from services.runtime.direct import DirectRoutes
from services.runtime.health import Readiness, health_router
from services.runtime.metrics import announce_build, package_version
from services.runtime.middleware import RequestContextMiddleware
from services.runtime.openapi import use_problem_schema
from services.runtime.problem_handlers import install_problems
from services.runtime.request_bodies import RequestBodyMiddleware
from services.runtime.settings import HttpSettings

ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Gapless-At-Least",
    "Gapless-Sender",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
    "traceparent",
)
EXPOSED_HEADERS: Final = ("Location", "Retry-After", "X-Request-Id", "traceparent", "Preference-Applied")
ALLOWED_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own looks for a provider at each request; metrics and trace context are ours (middleware.py)."""


def build_app(
    *,
    title: str,
    service: str,
    http: HttpSettings,
    readiness: Readiness,
    authenticator: Authenticator | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    description: str = "",
    body_limit_bytes_by_path: Mapping[str, int] | None = None,
) -> FastAPI:
    """An application that answers health checks and nothing else yet: include your routers.

    :param service: the name in logs, metrics and /healthz.
    :param authenticator: kept as `app.state.authenticator`, where `auth.current_caller` looks for it.
    :param body_limit_bytes_by_path: limits of exact paths that take more (or less) than http.body_limit_bytes.
    """
    app = FastAPI(
        title=title,
        version=package_version(),
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,
        strict_content_type=False,  # no Content-Type means JSON: no cookie is believed, so no form can be forged
        default_response_class=JSONResponse,
        middleware=_middleware(http, body_limit_bytes_by_path or {}),
        telemetry=NO_TELEMETRY,
    )
    app.state.authenticator = authenticator
    app.state.readiness = readiness
    install_problems(app)
    app.include_router(health_router(readiness, service=service))
    use_problem_schema(app)
    announce_build(service)
    return app


def _middleware(http: HttpSettings, limits: Mapping[str, int]) -> list[Middleware]:
    cors: list[Middleware] = []
    if http.cors_origins:  # outermost, so that errors too can be read by a browser's script
        options: dict[str, Any] = {
            "allow_origins": list(http.cors_origins),
            "allow_methods": list(ALLOWED_METHODS),
            "allow_headers": list(ALLOWED_HEADERS),
            "expose_headers": list(EXPOSED_HEADERS),
            "max_age": 600,
        }
        cors.append(Middleware(CORSMiddleware, **options))
    return [
        *cors,
        Middleware(RequestContextMiddleware),
        Middleware(
            RequestBodyMiddleware,
            limit_bytes=http.body_limit_bytes,
            limit_bytes_by_path=limits,
            timeout_s=http.body_timeout_s,
            memory_bytes=http.body_memory_bytes,
        ),
        Middleware(
            ConcurrencyLimitMiddleware,
            limit=http.max_concurrent_requests,
            limit_per_caller=http.concurrent_requests_per_caller,
        ),
        Middleware(DirectRoutes),
    ]
