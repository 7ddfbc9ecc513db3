"""`gapless api`: ingest, query and live on one port in one process.

Several such processes share the port through SO_REUSEPORT: the kernel distributes new connections among them. Each
serves its own health and metrics on its GAPLESS_OPS_PORT.
"""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import Field

from services.ingest.api.routes import BODY_LIMIT_BYTES_BY_PATH
from services.ingest.app import IngestService
from services.ingest.settings import IngestSettings
from services.live.app import LiveService
from services.live.settings import LiveSettings
from services.ops.demo_page.routes import demo_page
from services.ops.demo_page.settings import DemoSettings
from services.query.app import QueryService
from services.query.settings import QuerySettings
from services.runtime.access.auth import Authenticator
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.http import build_app
from services.runtime.process.lifecycle import Supervisor
from services.runtime.serving.serve import serve
from services.runtime.serving.server import HttpServer
from services.runtime.settings import AuthSettings, HttpSettings, LogSettings, ProcessSettings, Settings


class ApiSettings(Settings):
    """All settings of an api process."""

    ingest: IngestSettings = Field(default_factory=IngestSettings)
    query: QuerySettings = Field(default_factory=QuerySettings)
    live: LiveSettings = Field(default_factory=LiveSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
    demo: DemoSettings = Field(default_factory=DemoSettings)


def create_app(settings: ApiSettings) -> tuple[FastAPI, IngestService, QueryService, LiveService, Readiness]:
    """Return the application, its services, to start before and stop after it, and its readiness."""
    readiness = Readiness()
    ingest = IngestService(settings.ingest, readiness)
    query = QueryService(settings.query, readiness)
    live = LiveService(settings.live, settings.auth, readiness, on_accepted=ingest.replies.seen_in_log)
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
    app.include_router(live.router)
    if settings.demo.page:
        app.include_router(demo_page())
    return app, ingest, query, live, readiness


async def run(settings: ApiSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor requests a stop. Raises SettingsError if the topics do not match the settings."""
    app, ingest, query, live, readiness = create_app(settings)
    http = settings.http
    server = HttpServer.of(app, settings.live.with_streams(http))
    async with OpsServer(http, readiness, service="api"):
        await serve(
            server,
            [query, live, ingest],
            supervisor,
            shutdown_timeout_s=settings.process.shutdown_timeout_s,
            supervised={"ingest": ingest.ended, "live": live.ended},
        )
