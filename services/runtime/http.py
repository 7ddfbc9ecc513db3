"""Builds the HTTP application of a service, with the parts that all services share.

`build_app` wires the middleware, problem documents, health and OpenAPI. Handlers may read `request.state.request_id`
and `request.state.traceparent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.types import Lifespan

from services.runtime.access.auth import Authenticator
from services.runtime.health.health import Readiness, health_routes
from services.runtime.observe.metrics import announce_build, package_version
from services.runtime.settings import HttpSettings
from services.runtime.web.docs_pages import docs_pages
from services.runtime.web.fast_routes import FastRoutes
from services.runtime.web.middleware_stack import middleware_of
from services.runtime.web.openapi import use_problem_schema
from services.runtime.web.problem_handlers import install_problems
from services.runtime.web.validation_problems import install_validation_problems

NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own telemetry looks for a provider at each request; we have our own metrics and trace context
(middleware.py)."""


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
    """Return an application that only answers health checks so far: include your routers.

    :param service: the name in logs, metrics and /healthz.
    :param authenticator: stored as `app.state.authenticator`, which `auth.current_caller` uses.
    :param body_limit_bytes_by_path: body limits of exact paths that differ from http.body_limit_bytes.
    """
    app = FastAPI(
        title=title,
        version=package_version(),
        description=description,
        lifespan=lifespan,
        docs_url=None,  # docs_pages serves it without files from a CDN
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # no Content-Type means JSON: cookies are never accepted, so CSRF is impossible
        default_response_class=JSONResponse,
        middleware=[*middleware_of(http, body_limit_bytes_by_path or {}), Middleware(FastRoutes)],
        telemetry=NO_TELEMETRY,
    )
    app.state.authenticator = authenticator
    app.state.readiness = readiness
    install_problems(app)
    install_validation_problems(app)
    app.include_router(docs_pages(title))
    app.router.routes.extend(health_routes(readiness, service=service))
    use_problem_schema(app)
    announce_build(service)
    return app
