"""Search in the projector: its rows and its position, its place behind history, and what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from services.projector.errors import LostRace
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import HISTORY, SEARCH, Feed
from services.projector.following.precedence import Precedence
from services.projector.following.worker import Ended, PartitionWorker
from services.projector.mapping.search import search_changes_of
from services.projector.mapping.validity import classify_records
from services.projector.versions.migrations import migrate
from services.projector.writing.apply import load_position
from services.projector.writing.guard import Move
from services.projector.writing.search import search_sql, write_search
from services.runtime.health.health import Readiness
from services.runtime.postgres.pool import Connection, PostgresPool, connect, open_pool
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, ChatLog
from tests.support.projection import TOPIC_ID, LogWriter, log_of_its_own, make_topics, postgres_of, until
from tests.support.projection import write_search_records as write

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def tables(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(postgres_of(dsn), application_name="test", autocommit=True)
    try:
        await migrate(connection)
        yield connection
    finally:
        await connection.close()


async def found(connection: Connection, query: str) -> list[int]:
    """Return the seqs of the messages whose lexemes match."""
    cursor = await connection.execute(
        "SELECT seq FROM chat.message_search WHERE tokens @@ %s::tsquery ORDER BY seq", [query]
    )
    return [seq for (seq,) in await cursor.fetchall()]


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_edited_and_deleted_texts_leave_search_with_the_batch(database: str, copy_from: int) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    for text in ("old words", "other words", "東京タワー"):
        log.send(chat, ANNA, text)
    before = len(log.events)
    log.edit(chat, ANNA, 1, "new 'quoted\\ text")
    log.delete(chat, ANNA, 2)
    async with tables(database) as connection:
        await write(connection, 1, log.events[:before], copy_from=copy_from)
        assert await found(connection, "'words'") == [1, 2]
        assert await found(connection, f"'c:{chat}' & '東京' & 'タワ'") == [3]
        await write(connection, 1, log.events[before:], copy_from=copy_from)
        assert await found(connection, "'words' | 'old'") == []
        assert await found(connection, f"'c:{chat}' & 'quoted'") == [1], "the lexeme of the chat stays"
        assert await found(connection, f"'c:{chat}'") == [1, 3]


async def test_copied_vectors_are_those_that_array_to_tsvector_makes(database: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [])
    for text in ("", "Hello, World", "東京タワー 한국어 ภาษา a aa aaa 😀", "x" * 500, " ".join(map(str, range(400)))):
        log.send(chat, ANNA, text, media_urls=["https://example.org/a.png"])
    async with tables(database) as connection:
        await write(connection, 1, log.events, copy_from=0)
        cursor = await connection.execute(
            "SELECT count(*), bool_and(tokens = array_to_tsvector(tsvector_to_array(tokens))),"
            " bool_and(tokens::text::tsvector = tokens) FROM chat.message_search"
        )
        assert await cursor.fetchone() == (5, True, True)


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_search_is_written_with_its_position_or_not_at_all(database: str, copy_from: int) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [])
    log.send(chat, ANNA, "wombat")
    sql = search_sql(1)
    async with tables(database) as connection:
        _, start = await load_position(connection, sql, partition=0, topic_id=TOPIC_ID)
        elsewhere = replace(start, next_offset=1)
        classified = classify_records(start, log.events, read_up_to=len(log.events))
        move = Move(partition=0, topic_id=TOPIC_ID, start=elsewhere, end=classified.end)
        with pytest.raises(LostRace):
            await write_search(connection, sql, move, search_changes_of(classified.events), copy_from=copy_from)
        assert await found(connection, "'wombat'") == []
        assert (await load_position(connection, sql, partition=0, topic_id=TOPIC_ID))[1] == start


class Scene:
    """A log in Kafka, its tables, and workers that share a thread."""

    def __init__(self, kafka: KafkaSettings, pool: PostgresPool, log: ChatLog, writer: LogWriter) -> None:
        self.kafka = kafka
        self.pool = pool
        self.log = log
        self.writer = writer
        self.precedence = Precedence()
        self.readiness = Readiness()

    @asynccontextmanager
    async def worker(self, feed: Feed) -> AsyncIterator[asyncio.Task[Ended]]:
        consumer = PartitionConsumer(
            version=1, partition=0, pool=self.pool, kafka=self.kafka, topic=TopicId(self.kafka), feed=feed
        )
        worker = PartitionWorker(
            consumer, readiness=self.readiness, max_batch_records=20, backoff_max_s=0.5, precedence=self.precedence,
            gives_way=feed is not HISTORY,
        )  # fmt: skip
        task = asyncio.create_task(worker.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def position(self, table: str) -> int:
        async with self.pool.connection() as connection:
            row = await (await connection.execute(f"SELECT next_offset FROM chat.{table}".encode())).fetchone()
        return row[0] if row else 0

    async def reaches(self, table: str, offset: int) -> None:
        async def is_there() -> bool:
            return await self.position(table) >= offset

        await until(is_there, f"{table} at offset {offset}")


@asynccontextmanager
async def scene(kafka: str, dsn: str) -> AsyncIterator[Scene]:
    settings = log_of_its_own(kafka)
    await make_topics(settings)
    log = ChatLog()
    log.open()
    async with (
        open_pool(postgres_of(dsn), application_name="test", autocommit=True) as pool,
        LogWriter(settings, log) as writer,
    ):
        async with pool.connection() as connection:
            await migrate(connection)
        yield Scene(settings, pool, log, writer)


async def test_search_waits_while_history_has_whole_batches_to_write(kafka: str, database: str) -> None:
    async with scene(kafka, database) as s:
        chat = s.log.create(ANNA, "ops", [])
        for n in range(100):
            s.log.send(chat, ANNA, f"text {n}")
        end = await s.writer.flush()
        s.precedence.is_behind("another partition")
        async with s.worker(SEARCH), s.worker(HISTORY):
            await s.reaches("projection_positions", end)
            assert await s.position("search_positions") == 0
            s.precedence.is_near("another partition")
            await s.reaches("search_positions", end)


async def test_search_does_not_wait_for_history_that_was_ended_before_it_ran(kafka: str, database: str) -> None:
    """A task that is cancelled at once runs nothing, not even its `finally`."""
    async with scene(kafka, database) as s:
        async with s.worker(HISTORY):
            pass
        await asyncio.wait_for(s.precedence.wait(), 60)


async def test_history_that_stops_does_not_hold_search_back_nor_search_history(kafka: str, database: str) -> None:
    async with scene(kafka, database) as s:
        chat = s.log.create(ANNA, "ops", [])
        for n in range(100):
            s.log.send(chat, ANNA, f"text {n}")
        end = await s.writer.flush()
        async with s.worker(SEARCH):
            await s.reaches("search_positions", end)
        async with s.pool.connection() as connection:
            await connection.execute("DELETE FROM chat_v1.message_search WHERE seq = 7")
        s.log.edit(chat, ANNA, 7, "the row to reword is gone")
        s.log.send(chat, ANNA, "one more")
        end = await s.writer.flush()
        async with s.worker(SEARCH) as search, s.worker(HISTORY):
            assert await search is Ended.STOPPED
            await s.reaches("projection_positions", end)
            reasons = (await s.readiness.report()).reasons
            assert any(reason.startswith("search_reworded found 0 of 1 rows") for reason in reasons), reasons
            labels = {"projection": "chat_v1.search", "partition": "0"}
            assert REGISTRY.get_sample_value("gapless_projector_partition_stopped", labels) == 1
            lag = REGISTRY.get_sample_value("gapless_projector_lag_events", labels)
            assert lag is not None
            assert lag > 0
