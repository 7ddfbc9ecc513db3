"""Support for tests of projections next to each other: a small log that can grow, and a database with its versions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.ids import ChatId
from services.projector.app import Projector
from services.projector.settings import ProjectorSettings
from services.projector.versions.cutover import cutover, projections
from services.projector.versions.migrations import migrate
from services.projector.versions.rebuild import RebuildProgress, rebuild
from services.projector.versions.registry import State
from services.runtime.health.health import Readiness
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.chat_log import ANNA, BEN, ChatLog, conversation
from tests.support.projection import LogWriter, contradictions, dump, log_of_its_own, make_topics, postgres_of, until

PARTITIONS = 2


@dataclass(slots=True)
class World:
    """A log of two partitions, a chat in each, and a database."""

    kafka: KafkaSettings
    postgres: PostgresSettings
    pool: PostgresPool
    logs: list[ChatLog]
    writers: list[LogWriter]
    chats: list[ChatId]

    async def talk(self, messages: int) -> None:
        """Send this number of messages in each chat, with marks between them."""
        for log, chat, writer in zip(self.logs, self.chats, self.writers, strict=True):
            first = log.send(chat, ANNA, "a question")
            for n in range(messages - 1):
                sent = log.send(chat, (ANNA, BEN)[n % 2], f"text {n}", reply_to_message_id=first.id if n % 5 else None)
                assert sent.seq is not None
                if n % 3 == 0:
                    log.read(chat, (BEN, ANNA)[n // 3 % 2], sent.seq)
            await writer.flush()

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Keep writing messages, the last one whole: a cancelled send would leave `log` ahead of the topic."""
        enough = asyncio.Event()

        async def talk_on() -> None:
            while not enough.is_set():
                await self.talk(5)
                await asyncio.sleep(0.005)

        task = asyncio.create_task(talk_on())
        try:
            yield
        finally:
            enough.set()
            await task

    @asynccontextmanager
    async def projector(self) -> AsyncIterator[Projector]:
        settings = ProjectorSettings(kafka=self.kafka, postgres=self.postgres, registry_poll_interval_s=0.2)
        projector = Projector(settings, self.pool, Readiness())
        projector.assign(frozenset(range(PARTITIONS)))
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def rebuild(self, version: int = 2) -> RebuildProgress:
        return await rebuild(version, kafka=self.kafka, postgres=self.postgres)

    async def cutover(self, version: int, *, timeout_s: float = 30.0) -> None:
        await cutover(version, kafka=self.kafka, postgres=self.postgres, timeout_s=timeout_s)

    async def state(self, version: int) -> State:
        return next(p.state for p in await projections(postgres=self.postgres) if p.version == version)

    async def at_end(self, *schemas: str) -> None:
        """Wait until everything written so far is in these schemas."""
        ends = {log.partition: len(log.events) for log in self.logs}

        async def there() -> bool:
            async with self.pool.connection() as connection:
                for schema in schemas:
                    rows = await (
                        await connection.execute(
                            f"SELECT 'tables', partition, next_offset FROM {schema}.projection_positions UNION ALL"
                            f" SELECT 'search', partition, next_offset FROM {schema}.search_positions".encode()
                        )
                    ).fetchall()
                    if sorted(rows) != sorted((of, p, end) for of in ("search", "tables") for p, end in ends.items()):
                        return False
            return True

        await until(there, f"{schemas} at the end of the log")

    async def equal(self, one: str, other: str) -> None:
        async with self.pool.connection() as connection:
            first, second = await dump(connection, one), await dump(connection, other)
            for table, rows in first.items():
                assert second[table] == rows, table
            assert await contradictions(connection, one) == []


@asynccontextmanager
async def world(kafka: str, dsn: str) -> AsyncIterator[World]:
    settings, postgres = log_of_its_own(kafka, partitions=PARTITIONS), postgres_of(dsn)
    await make_topics(settings)
    logs = [ChatLog(partition=p, partitions=PARTITIONS) for p in range(PARTITIONS)]
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(postgres, application_name="test", autocommit=True))
        writers = [await stack.enter_async_context(LogWriter(settings, log)) for log in logs]
        async with pool.connection() as connection:
            await migrate(connection)
        chats = []
        for log in logs:
            log.open()
            conversation(log)
            chats.append(log.create(ANNA, log.name_here(ANNA, "talk"), [BEN]))
        yield World(settings, postgres, pool, logs, writers, chats)
