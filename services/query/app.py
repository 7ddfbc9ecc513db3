"""Query as part of a process: `QueryService` to mount in an application, `run` for a process of its own."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from services.query.api.reads import Reads
from services.query.api.routes import query_router
from services.query.settings import QueryProcessSettings, QuerySettings
from services.query.snapshot.feeding import FeedingWatch
from services.query.snapshot.reader import SnapshotReader
from services.runtime.access.auth import Authenticator
from services.runtime.health.dependencies import Dependency, ProbeResult
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.postgres.refusals import why_unreachable
from services.runtime.process.lifecycle import Supervisor
from services.runtime.process.tasks import end
from services.runtime.serving.serve import serve
from services.runtime.serving.server import HttpServer


class QueryService:
    """The query service without the HTTP application around it.

        query = QueryService(settings, readiness)
        app.include_router(query.router)
        await query.start()     # returns at once, even while Postgres is down: requests get 503 until it is back
        ...
        await query.stop()

    :param readiness: gets a check that fails while the read model is unreadable.
    """

    def __init__(self, settings: QuerySettings, readiness: Readiness) -> None:
        self._postgres = settings.postgres
        self._snapshots = SnapshotReader(settings)
        self.router = query_router(Reads(self._snapshots, partitions=settings.kafka.partitions))
        self._dependency = Dependency("postgres", self._probe, readiness)
        self._feeding = FeedingWatch(self._snapshots, readiness, partitions=settings.kafka.partitions)
        self._beside: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the pool, which connects in the background."""
        await self._snapshots.open()
        self._beside = {
            asyncio.create_task(self._dependency.run(), name="probe"),
            asyncio.create_task(self._feeding.run(), name="feeding"),
        }

    async def stop(self) -> None:
        """Close the pool. Running reads get 503."""
        await end(self._beside)
        await self._snapshots.close()

    async def _probe(self) -> ProbeResult:
        return ProbeResult(trouble=await why_unreachable(self._postgres, await self._snapshots.trouble()))


def create_app(settings: QueryProcessSettings) -> tuple[FastAPI, QueryService]:
    """Return the application of query alone, and its service: start it before, and stop it after, the application."""
    readiness = Readiness()
    service = QueryService(settings.query, readiness)
    app = build_app(
        title="Gapless query",
        service="query",
        http=settings.http,
        readiness=readiness,
        authenticator=Authenticator(settings.auth),
    )
    app.include_router(service.router)
    return app, service


async def run(settings: QueryProcessSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor requests a stop. Run by `lifecycle.run_service`."""
    app, service = create_app(settings)
    server = HttpServer.of(app, settings.http)
    await serve(server, [service], supervisor, shutdown_timeout_s=settings.process.shutdown_timeout_s)
