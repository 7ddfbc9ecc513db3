"""Assembles ingest: alone as `gapless ingest`, or as a router next to query's in `gapless api`.

service = IngestService(settings, readiness)
app.include_router(service.router)       # the app needs `state.authenticator`; `http.build_app` sets it
await service.start()
supervisor.start("ingest", service.ended())
...
await service.stop()                     # after the HTTP server has let the running requests end
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog
from fastapi import FastAPI

from schemas.topics import TopicNames, topic_specs
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api.rate import RateLimit
from services.ingest.api.routes import BODY_LIMIT_BYTES_BY_PATH, ingest_router
from services.ingest.problems import not_open
from services.ingest.sending.dispatch import ClientGone, Dispatcher
from services.ingest.sending.pending import Pending
from services.ingest.sending.publisher import Publisher
from services.ingest.sending.receipts import ReceiptCoalescer
from services.ingest.sending.replies import ReplyListener
from services.ingest.settings import IngestProcessSettings, IngestSettings
from services.runtime.access.auth import Authenticator
from services.runtime.health.dependencies import Dependency
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.http import build_app
from services.runtime.kafka.errors import KafkaUnavailable, TopicsWrong
from services.runtime.kafka.probe import KafkaProbe
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topic_watch import TopicWatch
from services.runtime.kafka.topics import check_topics
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.lifecycle import Supervisor
from services.runtime.serving.serve import serve
from services.runtime.serving.server import HttpServer
from services.runtime.settings import SettingsError
from services.runtime.web.problems import Problem

START_WAIT_S: Final = 10.0
"""How long start() waits for Kafka before the process starts anyway and responds with 503."""
CHECK_BACKOFF_S: Final = 2.0

_log = structlog.get_logger(__name__)


class IngestService:
    """Ingest without the HTTP server: the router, and the Kafka clients behind it."""

    def __init__(self, settings: IngestSettings, readiness: Readiness) -> None:
        kafka = settings.kafka
        self._kafka = kafka
        self._readiness = readiness
        self._names = TopicNames.prefixed(kafka.topic_prefix)
        client_id = f"{kafka.client_id}-ingest"
        self._producer = Producer(kafka=kafka.connection, client_id=client_id)
        self._replies = ReplyListener(
            kafka=kafka.connection,
            topic=self._names.replies,
            reply_partitions=kafka.reply_partitions,
            client_id=client_id,
            partition=settings.reply_partition,
        )
        publisher = Publisher(
            self._producer,
            topic=self._names.commands,
            partitions=kafka.partitions,
            append_timeout_s=settings.append_timeout_s,
            max_appends=settings.max_appends,
            max_append_bytes=settings.max_append_bytes,
        )
        self._dispatcher = Dispatcher(publisher, self._replies)
        self._receipts = ReceiptCoalescer(self._send, window_s=settings.receipt_window_s)
        rate = None
        if settings.rate_per_s is not None:
            rate = RateLimit(rate_per_s=settings.rate_per_s, burst=settings.rate_burst)
        self.router = ingest_router(
            send=self._send,
            send_all=self._send_all,
            receipts=self._receipts,
            default_wait_s=settings.default_wait_s,
            rate=rate,
        )
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._open = False
        self._why_not_open = ""
        readiness.add_check("ingest", self._trouble)
        every = {self._names.commands: range(kafka.partitions)}
        # Unready only if no partition can be reached; otherwise clients can still send to the others.
        self._probe = KafkaProbe(
            kafka=kafka.connection,
            client_id=client_id,
            partitions=lambda: every if self._open else {},
            all_needed=False,
        )
        self._dependency = Dependency("kafka", self._probe, readiness)
        self._probing: asyncio.Task[None] | None = None

    @property
    def replies(self) -> ReplyListener:
        return self._replies

    async def start(self) -> None:
        """Connect. While Kafka is unreachable, retry in the background; requests get 503 until then.

        Raises SettingsError if the topics do not match the settings.
        """
        self._probing = asyncio.create_task(self._dependency.run(), name="probe")
        self._opening = asyncio.create_task(self._open_when_there(), name="ingest opening")
        await asyncio.wait({self._opening}, timeout=START_WAIT_S)
        if self._opening.done():
            self._opening.result()

    async def ended(self) -> None:
        """Wait, and raise if ingest cannot continue. Does not return otherwise; meant for a supervisor."""
        assert self._opening is not None, "start() was not called"
        await asyncio.shield(self._opening)
        await self._replies.ended()

    async def stop(self) -> None:
        """Stop in bounded time. Requests still waiting get 202 or are cut off; no command is lost by it."""
        self._open = False
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
            await self._probe.close()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await self._receipts.stop()
        await self._replies.stop()
        await self._producer.stop()

    async def _open_when_there(self) -> None:
        specs = topic_specs(
            self._names,
            partitions=self._kafka.partitions,
            reply_partitions=self._kafka.reply_partitions,
            replication_factor=self._kafka.replication_factor,
            min_insync_replicas=self._kafka.min_insync_replicas,
        )
        while True:
            try:
                # First, because a broker may create a topic, with wrong settings, when any client names it.
                await check_topics(self._kafka.connection, self._names, specs, ask_log="if_needed")
                await self._producer.start()
                break
            except TopicsWrong as wrong:
                raise SettingsError(f"Ingest cannot serve this log: {wrong}.") from None
            except KafkaUnavailable as error:
                warn_throttled(_log, "kafka_unavailable", error=str(error))
                self._why_not_open = f": {error}"
                await asyncio.sleep(CHECK_BACKOFF_S)
        watch = TopicWatch(
            kafka=self._kafka.connection,
            names=self._names,
            specs=specs,
            readiness=self._readiness,
            ask_log="if_needed",
        )
        self._watching = asyncio.create_task(watch.run(), name="topics")
        await self._replies.start(START_WAIT_S)
        self._open = True

    async def _send(self, command: Command, wait_s: float, client_gone: ClientGone | None) -> Reply | Pending:
        if not self._open:
            raise not_open()
        return await self._dispatcher.send(command, wait_s, client_gone)

    async def _send_all(
        self, commands: Sequence[Command], wait_s: float, client_gone: ClientGone | None
    ) -> list[Reply | Pending | Problem]:
        if not self._open:
            raise not_open()
        return await self._dispatcher.send_all(commands, wait_s, client_gone)

    async def _trouble(self) -> str | None:
        if not self._open:
            return f"Ingest has not reached Kafka yet{self._why_not_open}."
        if not self._replies.listening:
            return "Ingest cannot read outcomes: Kafka does not answer."
        return None


def create_app(settings: IngestProcessSettings) -> tuple[FastAPI, IngestService, Readiness]:
    """Return the application of ingest alone; its service, to start before and stop after it; and its readiness."""
    readiness = Readiness()
    service = IngestService(settings.ingest, readiness)
    app = build_app(
        title="Gapless ingest",
        service="ingest",
        http=settings.http,
        readiness=readiness,
        authenticator=Authenticator(settings.auth),
        body_limit_bytes_by_path=BODY_LIMIT_BYTES_BY_PATH,
    )
    app.include_router(service.router)
    return app, service, readiness


async def run(settings: IngestProcessSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor requests a stop. Run by `lifecycle.run_service`. Raises SettingsError like start."""
    app, service, readiness = create_app(settings)
    http = settings.http
    server = HttpServer.of(app, http)
    async with AsyncExitStack() as stack:
        if http.reuse_port:  # a request to the shared port reaches any of the processes
            await stack.enter_async_context(OpsServer(http, readiness, service="ingest"))
        await serve(
            server,
            [service],
            supervisor,
            shutdown_timeout_s=settings.process.shutdown_timeout_s,
            supervised={"ingest": service.ended},
        )
