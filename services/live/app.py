"""Live as part of a process: `LiveService` to mount in an application, `run` for a process of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI

from schemas.topics import TopicNames
from services.live.api import event_streams, signals, tickets
from services.live.api.opening import Opener
from services.live.api.websockets import WebSockets
from services.live.connections.streams import Streams
from services.live.errors import LiveError
from services.live.hub.hub import Hub
from services.live.hub.ring import Ring
from services.live.settings import LiveProcessSettings, LiveSettings
from services.live.signals.exchange import SignalExchange
from services.live.tail.standing import APPLICATION_NAME, StandingReader
from services.live.tail.tail import LogTail, OnAccepted
from services.runtime.access.auth import Authenticator
from services.runtime.health.health import Readiness
from services.runtime.http import build_app
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.topics import topic_id
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.process.backoff import Backoff
from services.runtime.process.lifecycle import Supervisor
from services.runtime.process.tasks import end
from services.runtime.serving.serve import serve
from services.runtime.serving.server import HttpServer
from services.runtime.settings import AuthSettings
from services.runtime.web.openapi import operation_id

BACKOFF_MAX_S: Final = 2.0
_READING: Final = "live"

_log = structlog.get_logger(__name__)


class LiveService:
    """The live service without the HTTP application around it.

    live = LiveService(settings, auth, readiness)
    app.include_router(live.router)
    await live.start()     # returns at once; streams get 503 until the log is being read
    ...
    await live.stop()      # after the HTTP server: says `bye` to all
    """

    def __init__(
        self,
        settings: LiveSettings,
        auth: AuthSettings,
        readiness: Readiness,
        *,
        on_accepted: OnAccepted | None = None,
    ) -> None:
        """:param on_accepted: called with each accepted outcome that the tail reads, before streams get it."""
        self._settings = settings
        self._readiness = readiness
        ring = Ring(max_bytes=settings.ring_bytes, max_age_s=settings.ring_s)
        self._hub = Hub(ring, partitions=settings.kafka.partitions)
        self._opened = AsyncExitStack()
        self._pool: PostgresPool | None = None
        self._standings = StandingReader(self._pool_of)
        self._streams = Streams(settings, self._hub, self._standings)
        self._tail = LogTail(
            settings.kafka, self._hub, readiness, after_piece=self._streams.head_moved, on_accepted=on_accepted
        )
        self.router = APIRouter(prefix="/v1", tags=["live"], generate_unique_id_function=operation_id)
        opener = Opener(self._hub, self._streams, heartbeat_s=settings.heartbeat_s)
        self._signals = SignalExchange(settings.kafka, self._hub)
        sockets = WebSockets(opener, self._streams, self._signals)
        secret = settings.ticket_secret or auth.secret
        issued = None if secret is None else tickets.Tickets(secret.get_secret_value())
        event_streams.add_routes(self.router, opener, self._streams, sockets, issued)
        signals.add_routes(self.router, self._streams, self._signals)
        if issued is not None:
            tickets.add_routes(self.router, issued)
        self._tasks: set[asyncio.Task[None]] = set()

    def _pool_of(self) -> PostgresPool | None:
        return self._pool

    async def start(self) -> None:
        """Open the pool, which connects in the background, and begin to read when both servers are there."""
        pool = open_pool(self._settings.postgres, application_name=APPLICATION_NAME, autocommit=True, read_only=True)
        self._pool = await self._opened.enter_async_context(pool)
        self._readiness.report_trouble(_READING, "Live does not read the log yet.")
        self._tasks = {
            asyncio.create_task(self._streams.run(), name="streams"),
            asyncio.create_task(self._follow(), name="tail"),
            asyncio.create_task(self._signals.run(), name="signals"),
        }

    async def ended(self) -> None:
        """Wait, and raise if live cannot continue. Does not return otherwise; meant for a supervisor."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Tell all clients to come back to other processes, and end."""
        await self._streams.drain()
        await end(self._tasks)
        await self._signals.stop()
        self._pool = None
        await self._opened.aclose()

    async def _follow(self) -> None:
        backoff = Backoff(BACKOFF_MAX_S)
        topic = TopicNames.prefixed(self._settings.kafka.topic_prefix).events
        while True:
            try:
                log_id = await topic_id(self._settings.kafka.connection, topic)
                folded, positions = await self._standings.positions()
            except (KafkaError, LiveError) as error:
                self._readiness.report_trouble(_READING, f"Live does not read the log yet: {error}")
                warn_throttled(_log, "live.waiting", kind=type(error).__name__, error=str(error))
            else:
                if folded in ("", log_id):
                    break
                self._readiness.report_trouble(
                    _READING,
                    f"The read model was folded from topic {folded}, but {topic} is now {log_id}: another log. Point"
                    " GAPLESS_KAFKA_BOOTSTRAP and GAPLESS_POSTGRES_DSN at one log and its read model.",
                    needs_operator=True,
                )
            await backoff.pause()
        self._hub.log_id = log_id
        following = asyncio.create_task(self._tail.run(positions), name="partitions")
        self._readiness.clear_trouble(_READING)
        try:
            await following
        finally:
            await end({following})


def create_app(settings: LiveProcessSettings) -> tuple[FastAPI, LiveService, Readiness]:
    """Return the application of live alone; its service, to start before and stop after it; and its readiness."""
    readiness = Readiness()
    service = LiveService(settings.live, settings.auth, readiness)
    app = build_app(
        title="Gapless live",
        service="live",
        http=settings.http,
        readiness=readiness,
        authenticator=Authenticator(settings.auth),
    )
    app.include_router(service.router)
    return app, service, readiness


async def run(settings: LiveProcessSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor requests a stop. Run by `lifecycle.run_service`."""
    app, service, _ = create_app(settings)
    server = HttpServer.of(app, settings.live.with_streams(settings.http))
    await serve(
        server,
        [service],
        supervisor,
        shutdown_timeout_s=settings.process.shutdown_timeout_s,
        supervised={"live": service.ended},
    )
