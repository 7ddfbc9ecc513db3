"""From records in a real Kafka to rows in a real Postgres: by one worker, by two at once, by one after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from devstack.kafka import KafkaCluster
from schemas.bodies import MessageDelete
from schemas.events import OtherOutcome
from schemas.log import Stamp
from schemas.types import CommandType, EventType
from schemas.wire.encoding import encode_outcome, event_source
from services.projector import metrics
from services.projector.errors import LostRace, PartitionStopped
from services.projector.following import consumer as consumer_module
from services.projector.following import worker as worker_module
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.worker import Ended, PartitionWorker
from services.projector.versions.migrations import migrate
from services.projector.writing.apply import apply_sql, load_position
from services.runtime.health.health import Readiness
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.probe import KafkaProbe
from services.runtime.kafka.topics import topic_id
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, ChatLog, LogRecord, conversation
from tests.support.cuttable import CuttableProxy
from tests.support.hostile import read_only
from tests.support.projection import (
    TOPIC_ID,
    LogWriter,
    contradictions,
    dump,
    empty,
    log_of_its_own,
    make_topics,
    postgres_of,
    until,
    write_records,
)

pytestmark = pytest.mark.anyio

NEWER_TYPE = "message.pinned.v1"
"""An outcome that a release after this one added."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(slots=True)
class Stage:
    """A log in Kafka, and the tables for it."""

    kafka: KafkaSettings
    pool: PostgresPool
    log: ChatLog
    writer: LogWriter
    readiness: Readiness

    def consumer(self, *, version: int = 1) -> PartitionConsumer:
        return PartitionConsumer(
            version=version, partition=0, pool=self.pool, kafka=self.kafka, topic=TopicId(self.kafka)
        )

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.Task[Ended]]:
        worker = PartitionWorker(self.consumer(), readiness=self.readiness, max_batch_records=500, backoff_max_s=0.5)
        task = asyncio.create_task(worker.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def next_offset(self) -> int:
        async with self.pool.connection() as connection:
            row = await (
                await connection.execute("SELECT next_offset FROM chat.projection_positions WHERE partition = 0")
            ).fetchone()
        return row[0] if row else 0

    async def reaches(self, offset: int) -> None:
        async def is_there() -> bool:
            return await self.next_offset() >= offset

        await until(is_there, f"the projection at offset {offset}")

    async def troubles(self) -> tuple[str, ...]:
        return (await self.readiness.report()).reasons

    async def rows_of_log(self) -> dict[str, object]:
        """Compare the tables with the log, folded one event at a time and without Kafka; return the tables."""
        async with self.pool.connection() as connection:
            found = await dump(connection, "chat_v1")
            await empty(connection, 1)
            for record in self.log.events:
                await write_records(connection, 1, [record])
            expected = await dump(connection, "chat_v1")
        assert expected["projection_positions"][0]["topic_id"] == TOPIC_ID
        expected["projection_positions"][0]["topic_id"] = found["projection_positions"][0]["topic_id"]
        assert found == expected
        return dict(found)


@asynccontextmanager
async def stage(kafka: str, dsn: str) -> AsyncIterator[Stage]:
    settings = log_of_its_own(kafka)
    await make_topics(settings)
    log = ChatLog()
    async with (
        open_pool(postgres_of(dsn), application_name="test", autocommit=True) as pool,
        LogWriter(settings, log) as writer,
    ):
        async with pool.connection() as connection:
            await migrate(connection)
        yield Stage(settings, pool, log, writer, Readiness())


def lag(unit: str) -> float:
    """Return what a scrape shows now."""
    labels = {"projection": "chat_v1", "partition": "0"}
    value = REGISTRY.get_sample_value(f"gapless_projector_lag_{unit}", labels)
    assert value is not None
    return value


def _fenced(log: ChatLog) -> LogRecord:
    outcome = OtherOutcome(type=EventType.MESSAGE_SENT, at_ms=log.at_ms, body=b"{}", position=99, seq=99)
    return log.append(encode_outcome(outcome, Stamp(log.term - 1, log.index + 1, 10_000), event_source(0)))


async def test_what_is_in_the_log_is_in_the_tables_and_void_records_are_not(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        conversation(s.log)
        repeated = s.log.append(s.log.events[-1].encoded())
        fenced = _fenced(s.log)
        assert repeated.offset + 1 == fenced.offset
        async with s.worker():
            await s.reaches(await s.writer.flush())
            voids = metrics.VOID_RECORDS.labels("chat_v1", "0")._value.get()
            rows = await s.rows_of_log()
            async with s.pool.connection() as connection:
                assert await contradictions(connection, "chat_v1") == []
        assert voids >= 2
        assert len(rows["chat_messages"]) == 4  # type: ignore[arg-type]


async def test_a_message_is_visible_although_nothing_happens_after_it(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        async with s.worker():
            await s.reaches(await s.writer.flush())
            for _ in range(20):
                s.log.send(chat, ANNA)
                await s.reaches(await s.writer.flush())


async def test_a_restart_goes_on_from_the_stored_head(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        for _ in range(3):
            async with s.worker():
                s.log.send(chat, ANNA)
                s.log.open()
                _fenced(s.log)
                await s.reaches(await s.writer.flush())
            s.log.send(chat, BEN)  # while no worker runs
            await s.writer.flush()
        async with s.worker():
            await s.reaches(await s.writer.flush() or len(s.log.events))
            await s.reaches(len(s.log.events))
        await s.rows_of_log()


async def test_of_two_workers_in_one_partition_one_writes_each_batch_and_the_other_lets_go(
    kafka: str, database: str
) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        async with s.worker() as first, s.worker() as second:
            await s.reaches(await s.writer.flush())
            while not (first.done() or second.done()):
                s.log.send(chat, ANNA)
                await s.reaches(await s.writer.flush())
            loser, winner = (first, second) if first.done() else (second, first)
            assert loser.result() is Ended.LOST_RACE
            s.log.send(chat, BEN)
            await s.reaches(await s.writer.flush())
            assert not winner.done()
        await s.rows_of_log()


async def test_who_comes_second_to_the_guard_has_written_nothing(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        await s.writer.flush()
        first, second = s.consumer(), s.consumer()
        await first.open()
        await second.open()
        assert await first.step(max_records=10, timeout_s=60.0) is not None
        with pytest.raises(LostRace):
            await second.step(max_records=10, timeout_s=60.0)
        s.log.send(chat, ANNA)
        await s.writer.flush()
        await second.open()
        assert await second.step(max_records=10, timeout_s=60.0) is not None
        await first.close()
        await second.close()
        await s.rows_of_log()


async def test_two_batches_at_the_guard_at_once_let_one_through(kafka: str, database: str) -> None:
    """Not one after the other: the second one waits in its UPDATE for the first one's commit."""
    async with stage(kafka, database) as s:
        s.log.open()
        s.log.create(ANNA, "ops", [BEN])
        await s.writer.flush()
        consumers = [s.consumer() for _ in range(4)]
        for consumer in consumers:
            await consumer.open()
        outcomes = await asyncio.gather(
            *(consumer.step(max_records=10, timeout_s=60.0) for consumer in consumers), return_exceptions=True
        )
        for consumer in consumers:
            await consumer.close()
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LostRace"] * 3 + ["Step"]
        await s.rows_of_log()


async def test_an_unknown_event_type_stops_the_partition_with_everything_before_it_written(
    kafka: str, database: str
) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        s.log.send(chat, ANNA)
        at = len(s.log.events)
        s.log.accept(s.log.command(CommandType.MESSAGE_DELETE, chat, ANNA, MessageDelete(seq=1)), event_type=NEWER_TYPE)
        s.log.send(chat, ANNA)
        await s.writer.flush()
        async with s.worker() as task:
            assert await asyncio.wait_for(task, 120) is Ended.STOPPED
            assert await s.next_offset() == at
            (trouble,) = await s.troubles()
            assert NEWER_TYPE in trouble
            assert "deploy" in trouble
            assert metrics.PARTITION_STOPPED.labels("chat_v1", "0")._value.get() == 1
            assert lag("events") == len(s.log.events) - at
            stands_before = s.log.events[at].timestamp / 1000
            assert lag("seconds") == pytest.approx(time.time() - stands_before, abs=30)
            assert lag("seconds") < lag("seconds"), "it grows though nothing runs"


async def test_the_end_of_the_log_is_known_of_a_partition_that_stopped(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        s.log.accept(s.log.command(CommandType.MESSAGE_DELETE, chat, ANNA, MessageDelete(seq=1)), event_type=NEWER_TYPE)
        await s.writer.flush()
        worker = PartitionWorker(s.consumer(), readiness=s.readiness, max_batch_records=500, backoff_max_s=0.5)
        assert await asyncio.wait_for(worker.run(), 120) is Ended.STOPPED
        before = worker.lag.events()
        for _ in range(3):
            s.log.send(chat, ANNA)
        end = await s.writer.flush()
        topic = f"{s.kafka.topic_prefix}chat.events"
        probe = KafkaProbe(
            kafka=s.kafka.connection,
            client_id="test",
            partitions=lambda: {topic: [0]},
            on_ends=lambda _topic, ends: worker.lag.saw_end(ends[0]),
        )
        try:

            async def seen() -> bool:
                assert (await probe()).trouble is None
                return worker.lag.events() == before + 3

            await until(seen, f"the end of the log, {end}")
        finally:
            await probe.close()


async def test_a_corrupt_log_stops_the_partition_and_names_the_offset(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        s.log.index += 5  # a hole in the indexes: no crash explains it
        s.log.send(chat, ANNA)
        await s.writer.flush()
        async with s.worker() as task:
            assert await asyncio.wait_for(task, 120) is Ended.STOPPED
            (trouble,) = await s.troubles()
            assert "offset 2" in trouble
            assert "gapless log verify" in trouble


async def test_tables_that_lack_what_the_log_changes_stop_the_partition(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        s.log.send(chat, ANNA)
        async with s.worker():
            await s.reaches(await s.writer.flush())
        async with s.pool.connection() as connection:
            await connection.execute("DELETE FROM chat_v1.chat_participants WHERE user_id = %s", [BEN])
        before = await s.next_offset()
        s.log.read(chat, BEN, 1)
        await s.writer.flush()
        async with s.worker() as task:
            assert await asyncio.wait_for(task, 120) is Ended.STOPPED
            (trouble,) = await s.troubles()
            assert "gapless projection rebuild" in trouble
        assert await s.next_offset() == before


@pytest.mark.parametrize("changed", ["topic", "head", "end", "record"])
async def test_a_position_of_another_log_is_refused(kafka: str, database: str, changed: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        conversation(s.log)
        async with s.worker():
            await s.reaches(await s.writer.flush())
        how = {
            "topic": "topic_id = 'of yesterday'",
            "head": "index = index - 1, command_offset = command_offset - 1",
            "end": "next_offset = next_offset + 1000",
            # As if the log had been cut below it and had grown again, with another record of the same stamp.
            "record": "last_record = sha256('what was there')",
        }[changed]
        async with s.pool.connection() as connection:
            await connection.execute(f"UPDATE chat_v1.projection_positions SET {how}".encode())
        s.log.open()
        await s.writer.flush()
        async with s.worker() as task:
            assert await asyncio.wait_for(task, 120) is Ended.STOPPED
            (trouble,) = await s.troubles()
            assert "gapless projection rebuild" in trouble


async def test_a_position_without_a_digest_of_its_record_is_gone_on_from(kafka: str, database: str) -> None:
    """As an older release leaves it, without the digest or with the one of an earlier record."""
    async with stage(kafka, database) as s:
        s.log.open()
        conversation(s.log)
        async with s.worker():
            await s.reaches(await s.writer.flush())
        for how in ("last_record = NULL, last_record_at = NULL", "last_record = sha256('x'), last_record_at = 1"):
            async with s.pool.connection() as connection:
                await connection.execute(f"UPDATE chat_v1.projection_positions SET {how}".encode())
            s.log.open()
            async with s.worker():
                await s.reaches(await s.writer.flush())


async def test_a_projector_that_moves_on_while_another_opens_is_not_taken_for_another_log(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Position and digest are two statements: the digest that is read must belong to the position that was read."""
    async with stage(kafka, database) as s:
        s.log.open()
        chat = s.log.create(ANNA, "ops", [BEN])
        async with s.worker():
            await s.reaches(await s.writer.flush())
        first, second = s.consumer(), s.consumer()
        await first.open()
        s.log.send(chat, ANNA)
        await s.writer.flush()

        async def load_and_be_overtaken(*arguments: Any, **named: Any) -> Any:
            loaded = await load_position(*arguments, **named)
            monkeypatch.setattr(consumer_module, "load_position", load_position)
            await first.step(max_records=10, timeout_s=60.0)
            return loaded

        monkeypatch.setattr(consumer_module, "load_position", load_and_be_overtaken)
        await second.open()
        with pytest.raises(LostRace):
            await second.step(max_records=10, timeout_s=60.0)
        for consumer in (first, second):
            await consumer.close()
        await s.rows_of_log()


async def test_a_fed_partition_is_confirmed_though_nothing_is_to_be_written(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "END_INTERVAL_S", 0.1)
    monkeypatch.setattr(worker_module, "IDLE_TIMEOUT_S", 0.1)
    async with stage(kafka, database) as s:

        async def confirmed() -> object:
            async with s.pool.connection() as connection:
                cursor = await connection.execute("SELECT updated_at FROM chat.projection_positions")
                return (await cursor.fetchone() or [None])[0]

        s.log.open()
        conversation(s.log)
        async with s.worker():
            await s.reaches(await s.writer.flush())
            for _ in range(3):
                before = await confirmed()

                async def is_later() -> bool:
                    return await confirmed() != before  # noqa: B023

                await until(is_later, "the partition confirmed though nothing was to be written")


async def test_postgres_away_is_waited_for_and_said(kafka: str, database: str) -> None:
    async with stage(kafka, database) as direct:
        parts = psycopg.conninfo.conninfo_to_dict(database)
        async with CuttableProxy(str(parts["host"]), int(str(parts["port"]))) as proxy:
            through = database.replace(f":{parts['port']}/", f":{proxy.port}/")
            settings = postgres_of(through).model_copy(update={"acquire_timeout_s": 0.5})
            async with open_pool(settings, application_name="test", autocommit=True) as pool:
                s = replace(direct, pool=pool)
                s.log.open()
                chat = s.log.create(ANNA, "ops", [BEN])
                async with s.worker() as task:
                    await direct.reaches(await s.writer.flush())
                    await proxy.cut()
                    s.log.send(chat, ANNA)
                    end = await s.writer.flush()

                    async def said() -> bool:
                        return any("Postgres" in trouble for trouble in await s.troubles())

                    await until(said, "readyz saying that Postgres is away")
                    assert not task.done()
                    assert lag("events") == 1
                    came_at = s.log.events[-1].timestamp / 1000
                    assert lag("seconds") == pytest.approx(time.time() - came_at, abs=30)
                    await proxy.mend()
                    await direct.reaches(end)

                    async def well() -> bool:
                        return not await s.troubles()

                    await until(well, "readyz saying that all is well")

                    async def caught_up() -> bool:
                        return (lag("events"), lag("seconds")) == (0, 0)

                    await until(caught_up, "no lag")
        await direct.rows_of_log()


async def test_a_database_that_was_read_only_for_a_while_is_caught_up_with_and_meanwhile_it_is_said(
    kafka: str, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        async with stage(kafka, database) as s:
            s.log.open()
            chat = s.log.create(ANNA, "ops", [BEN])
            async with s.worker() as task:
                await s.reaches(await s.writer.flush())
                read_only(admin, "on")
                s.log.send(chat, ANNA)
                end = await s.writer.flush()

                async def said() -> bool:
                    return any("the database is read-only" in trouble for trouble in await s.troubles())

                await until(said, "readyz saying that the database is read-only")
                read_only(admin, "off")
                await s.reaches(end)

                async def well() -> bool:
                    return not await s.troubles()

                await until(well, "readyz saying that all is well")
                assert not task.done()
            await s.rows_of_log()


async def test_kafka_away_is_waited_for_and_said(tmp_path: Path, database: str) -> None:
    cluster = KafkaCluster(tmp_path)
    await cluster.start()
    try:
        async with stage(cluster.bootstrap_servers, database) as s:
            s.log.open()
            chat = s.log.create(ANNA, "ops", [BEN])
            async with s.worker() as task:
                await s.reaches(await s.writer.flush())
                await cluster.brokers[0].kill()

                async def said() -> bool:
                    return any("Kafka" in trouble for trouble in await s.troubles())

                await until(said, "readyz saying that Kafka is away", timeout_s=60)
                await cluster.brokers[0].start()

                async def well() -> bool:
                    return not await s.troubles()

                await until(well, "readyz saying that all is well", timeout_s=60)
                s.log.send(chat, ANNA)
                await s.reaches(await s.writer.flush())
                assert not task.done()
            await s.rows_of_log()
    finally:
        await cluster.stop()


async def test_the_topic_id_is_that_of_kafka(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        async with s.worker():
            await s.reaches(await s.writer.flush())
        async with s.pool.connection() as connection:
            row = await (await connection.execute(apply_sql(1)["position"], {"partition": 0})).fetchone()
        assert row is not None
        assert row[0] == await topic_id(KafkaConnection.plain(kafka), f"{s.kafka.topic_prefix}chat.events")


async def test_a_record_without_a_stamp_stops_the_partition(kafka: str, database: str) -> None:
    async with stage(kafka, database) as s:
        s.log.open()
        record = s.log.append(s.log.events[0].encoded())
        s.log.events[-1] = replace(record, headers=[])
        await s.writer.flush()
        consumer = s.consumer()
        await consumer.open()
        with pytest.raises(PartitionStopped, match="offset 1"):
            await consumer.step(max_records=10, timeout_s=60.0)
        assert await s.next_offset() == 1
        await consumer.close()
