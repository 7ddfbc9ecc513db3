"""`gapless api`: ingest and query behind one port in one process.

Several such processes share the port by SO_REUSEPORT: the kernel spreads new connections over them. What one of
them says of itself (health, metrics) is asked at its own GAPLESS_OPS_PORT.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI
from pydantic import Field

from services.ingest.api.routes import BODY_LIMIT_BYTES_BY_PATH
from services.ingest.app import IngestService
from services.ingest.settings import IngestSettings
from services.query.app import QueryService
from services.query.settings import QuerySettings
from services.runtime.access.auth import Authenticator
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.http import build_app
from services.runtime.process.collector import infrequent_gc
from services.runtime.process.lifecycle import Supervisor
from services.runtime.serving.server import HttpServer
from services.runtime.settings import AuthSettings, HttpSettings, LogSettings, ProcessSettings, Settings

_log = structlog.get_logger(__name__)


class ApiSettings(Settings):
    """Everything that an api process reads."""

    ingest: IngestSettings = Field(default_factory=IngestSettings)
    query: QuerySettings = Field(default_factory=QuerySettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)


def create_app(settings: ApiSettings) -> tuple[FastAPI, IngestService, QueryService, Readiness]:
    """The application and the services in it, which are to be started before and stopped after it."""
    readiness = Readiness()
    ingest = IngestService(settings.ingest, readiness)
    query = QueryService(settings.query, readiness)
    app = build_app(
        title="Gapless",
        service="api",
        http=settings.http,
        readiness=readiness,
        authenticator=Authenticator(settings.auth),
        body_limit_bytes_by_path=BODY_LIMIT_BYTES_BY_PATH,
    )
    app.include_router(ingest.router)
    app.include_router(query.router)
    return app, ingest, query, readiness


async def run(settings: ApiSettings, supervisor: Supervisor) -> None:
    """Serves until the supervisor says stop. Raises SettingsError where the topics are not those of these settings."""
    app, ingest, query, readiness = create_app(settings)
    http = settings.http
    server = HttpServer.of(app, http)
    async with OpsServer(http, readiness, service="api"):
        try:
            await query.start()
            await ingest.start()
            # Last: with a shared port the kernel sends requests from the moment it listens.
            await server.start()
            _log.info("listening", url=server.url)
            supervisor.start("ingest", ingest.ended())
            supervisor.start("http server", server.wait_closed())
            with infrequent_gc():
                await supervisor.stop_requested()
        finally:
            # First the requests, then what they wait for: each gets its answer, or 202.
            await server.stop(timeout_s=settings.process.shutdown_timeout_s / 2)
            await ingest.stop()
            await query.stop()
