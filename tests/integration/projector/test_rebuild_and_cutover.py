"""A second projection built next to the live one, and the switch to it, under writes and reads."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import psycopg
import pytest
from prometheus_client import REGISTRY

from schemas.ids import ChatId
from services.projector.errors import LoadEnded, PartitionStopped, ProjectionMissing, SwitchFailed
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import HISTORY, Search
from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.versions.cutover import projections
from services.projector.versions.load import Loaded
from services.projector.versions.load_processes import APPLICATION, load_in_processes
from services.projector.versions.migrations import create_projection, migrate
from services.projector.versions.operators import only_one
from services.projector.versions.rebuild import RebuildProgress, Stage, rebuild
from services.projector.versions.registry import Place, State, positions
from services.projector.versions.retirement import drop, stop_feeding
from services.runtime.postgres.pool import Connection, connect
from services.runtime.postgres.sql import load_sql
from tests.support.chat_log import BEN, ChatLog
from tests.support.projection import (
    dump,
    postgres_of,
    until,
)
from tests.support.proving import feed_to_end
from tests.support.versions import PARTITIONS, World, world

STRANGER = "99999999-0000-4000-8000-000000000000"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_rebuild_beside_the_live_projection_is_equal_to_it(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(400)
        async with w.projector():
            async with w.talking():
                seen: list[RebuildProgress] = []
                done = await rebuild(
                    2, kafka=w.kafka, postgres=w.postgres, on_progress=seen.append, max_batch_records=100
                )
                assert await w.state(2) is State.STANDBY
            await w.at_end("chat_v1", "chat_v2")
            await w.equal("chat_v1", "chat_v2")
        assert done.stage is Stage.DONE
        assert done.records_done >= 800
        assert [p.records_done for p in seen] == sorted(p.records_done for p in seen)
        assert {p.stage for p in seen} == set(Stage)
        assert {p.index for p in seen} >= {"chat_messages_sender", "chat_participants_read", "outcomes_command"}


async def test_a_rebuilt_schema_has_the_tables_constraints_and_indexes_of_the_first(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.rebuild()
        async with w.pool.connection() as connection:

            async def shape(schema: str) -> list[str]:
                found: list[str] = []
                for ask in (
                    "SELECT indexdef FROM pg_indexes WHERE schemaname = %s",
                    "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)"
                    " FROM information_schema.columns WHERE table_schema = %s",
                    "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE connamespace = %s::regnamespace",
                ):
                    rows = await (await connection.execute(ask, [schema])).fetchall()
                    found += [str(row[0]).replace(schema, "s") for row in rows]
                return sorted(found)

            assert await shape("chat_v1") == await shape("chat_v2")


REBUILD_IN_A_PROCESS = """
import asyncio, sys
from pydantic import SecretStr
from services.projector.versions.rebuild import rebuild
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import KafkaSettings, PostgresSettings
kafka = KafkaSettings.model_validate_json(sys.argv[1])
asyncio.run(rebuild(2, kafka=kafka, postgres=PostgresSettings(dsn=SecretStr(sys.argv[2])), max_batch_records=20,
                    on_progress=lambda p: print(p.records_done, flush=True)))
"""


async def test_a_rebuild_that_is_killed_in_the_middle_goes_on_where_it_was(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(500)
        total = sum(len(log.events) for log in w.logs)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", REBUILD_IN_A_PROCESS, w.kafka.model_dump_json(), database,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(60):
            async for line in process.stdout:
                if int(line) >= 300:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            await process.wait()
        assert await w.state(2) is State.BUILDING
        with pytest.raises(ProjectionMissing, match="not built yet"):
            await w.cutover(2)
        done = await w.rebuild()
        assert 0 < done.records_done <= total - 280
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


async def test_autovacuum_stays_away_from_a_load_and_comes_back_when_it_is_indexed(kafka: str, database: str) -> None:
    """An index would wait a second for it. If a rebuild ends in between, the next one re-enables it."""

    def away() -> bool:
        with psycopg.connect(database) as connection:
            found = connection.execute(
                "SELECT relname FROM pg_class WHERE 'autovacuum_enabled=off' = ANY(reloptions) ORDER BY 1"
            ).fetchall()
        assert [name for (name,) in found] in ([], ["chat_messages", "message_search", "outcomes"])
        return bool(found)

    seen: dict[Stage, set[bool]] = {stage: set() for stage in Stage}

    def look(progress: RebuildProgress) -> None:
        seen[progress.stage].add(away())
        if progress.index == "outcomes_command":
            raise _Ended

    async with world(kafka, database) as w:
        with pytest.raises(_Ended):
            await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=look)
        assert away()
        await w.talk(5)
        await rebuild(2, kafka=w.kafka, postgres=w.postgres, on_progress=lambda p: seen[p.stage].add(away()))
        assert (seen[Stage.LOAD], seen[Stage.INDEX], seen[Stage.DONE]) == ({True}, {True}, {False})


class _Ended(Exception):
    """A rebuild was ended."""


async def _load_in_processes(w: World, on_loaded: Callable[[Loaded], None]) -> None:
    """Load chat_v2 as a rebuild begins, but entirely in other processes."""
    async with w.pool.connection() as connection:
        await create_projection(connection, 2)
    await load_in_processes(
        deque(range(PARTITIONS)), processes=PARTITIONS, at_once=1, version=2, kafka=w.kafka, postgres=w.postgres,
        max_batch_records=50, on_loaded=on_loaded,
    )  # fmt: skip


async def test_what_other_processes_load_is_what_one_loads(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(300)
        seen: list[Loaded] = []
        await _load_in_processes(w, seen.append)
        assert {loaded.partition for loaded in seen} == set(range(PARTITIONS))
        assert sum(loaded.records for loaded in seen) == sum(len(log.events) for log in w.logs)
        assert not any(loaded.records for loaded in seen if loaded.of_search), "the log is read once"
        await w.at_end("chat_v2")
        assert (await w.rebuild()).records_done == 0
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


async def test_search_that_fails_behind_its_tables_is_loaded_by_itself(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch of the tables is committed then, and their position is ahead of that of search."""
    async with world(kafka, database) as w:
        await w.talk(300)
        calls, write = count(1), Search.write

        async def fail_once(feed: Search, *batch: Any) -> int:
            if next(calls) == 3:
                raise psycopg.OperationalError("the server went away")
            return await write(feed, *batch)

        with monkeypatch.context() as patched:
            patched.setattr(Search, "write", fail_once)
            await rebuild(2, kafka=w.kafka, postgres=w.postgres, max_batch_records=50)
        assert next(calls) > 4
        await w.at_end("chat_v2")
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


async def test_a_rebuild_with_further_processes_loads_each_partition_once(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(100)
        done = await rebuild(2, kafka=w.kafka, postgres=w.postgres, processes=2)
        assert done.records_done == done.records_total == sum(len(log.events) for log in w.logs)
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


async def test_what_stops_a_partition_in_another_process_is_told(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        w.logs[1].index += 5
        offset = len(w.logs[1].events)
        await w.talk(1)
        with pytest.raises(ExceptionGroup) as raised:
            await _load_in_processes(w, lambda _loaded: None)
        (stopped,) = raised.value.exceptions
        assert isinstance(stopped, PartitionStopped)
        assert f"chat_v2/1 stopped at offset {offset}" in str(stopped)


LOAD_FROM_A_PROCESS = """
import asyncio, sys
from collections import deque
from pydantic import SecretStr
from services.projector.versions.load_processes import load_in_processes
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import KafkaSettings, PostgresSettings
kafka = KafkaSettings.model_validate_json(sys.argv[1])
asyncio.run(load_in_processes(deque([0, 1]), processes=2, at_once=1, version=2, kafka=kafka,
                              postgres=PostgresSettings(dsn=SecretStr(sys.argv[2])), max_batch_records=1,
                              on_loaded=lambda loaded: print(loaded.records, flush=True)))
"""


async def test_the_processes_of_a_rebuild_end_with_it_and_the_next_one_goes_on(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(1_000)
        total = sum(len(log.events) for log in w.logs)
        async with w.pool.connection() as connection:
            await create_projection(connection, 2)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LOAD_FROM_A_PROCESS, w.kafka.model_dump_json(), database,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        told = 0
        async with asyncio.timeout(60):
            async for line in process.stdout:
                told += int(line)
                if told >= 100:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            await process.wait()

        async def nobody_is_left() -> bool:
            return await _clients(w, APPLICATION) == 0

        await until(nobody_is_left, "the connections of the rebuild gone")
        done = await w.rebuild()
        assert 0 < done.records_done <= total - 100
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


async def test_a_process_that_ends_by_itself_ends_the_rebuild_with_a_word(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(kafka, database) as w:
        monkeypatch.setenv("GAPLESS_LOG_LEVEL", "no such level")  # it ends before it says anything
        with pytest.raises(LoadEnded, match="run the rebuild again"):
            await rebuild(2, kafka=w.kafka, postgres=w.postgres, processes=2)


async def _clients(w: World, application_name: str) -> int:
    async with w.pool.connection() as connection:
        row = await (
            await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
                [application_name],
            )
        ).fetchone()
    assert row is not None
    return int(row[0])


async def _latest(connection: Connection, chat: ChatId) -> tuple[int, int, int]:
    """Return the latest seq, the newest message and Anna's unread count, in one snapshot like query's."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE chat.active_projection IN ACCESS SHARE MODE")
        row = await (
            await connection.execute(
                "SELECT chat.get_latest_seq(%(c)s), (SELECT max(seq) FROM chat.get_messages(%(c)s)),"
                " (SELECT index FROM chat.projection_positions p WHERE p.partition = %(p)s)",
                {"c": chat, "p": 0},
            )
        ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


@dataclass(slots=True)
class Readers:
    """Readers that read continuously, each by itself.

    `ended` returns how often each did, and fails if one ever went back.
    """

    world: World
    stop: asyncio.Event
    tasks: list[asyncio.Task[int]]

    @classmethod
    def start(cls, world: World, count: int) -> Readers:
        readers = cls(world, asyncio.Event(), [])
        readers.tasks = [asyncio.create_task(readers._read()) for _ in range(count)]
        return readers

    async def _read(self) -> int:
        connection = await connect(self.world.postgres, application_name="reader", autocommit=True)
        await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reads, last = 0, (0, 0, 0)
        try:
            while not self.stop.is_set():
                now = await _latest(connection, self.world.chats[0])
                assert None not in now, (last, now)
                assert all(n >= before for n, before in zip(now, last, strict=True)), (last, now)
                assert now[0] == now[1], "two tables of one snapshot do not agree"
                last, reads = now, reads + 1
                await asyncio.sleep(0.002)
        finally:
            await connection.close()
        return reads

    async def ended(self) -> list[int]:
        self.stop.set()
        return await asyncio.gather(*self.tasks)


async def test_no_reader_steps_back_or_sees_an_error_through_switches_there_and_back(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(200)
        async with w.projector(), w.talking():
            await w.rebuild()
            readers = Readers.start(w, 8)
            for version in (2, 1, 2, 1, 2):
                await w.cutover(version)
                assert await w.state(version) is State.SERVING
                await asyncio.sleep(0.1)  # readers on this version, between two switches
            reads = await readers.ended()
        assert min(reads) > 0
        async with w.projector():
            await w.at_end("chat_v1", "chat_v2")  # the old one stays fed: going back is as quick
        await w.equal("chat_v1", "chat_v2")


@asynccontextmanager
async def _fed(w: World, version: int, lag_s: float) -> AsyncIterator[None]:
    """Feed a version with what the log held `lag_s` ago, never more."""

    async def feed_on(log: ChatLog) -> None:
        consumer = PartitionConsumer(
            version=version, partition=log.partition, pool=w.pool, kafka=w.kafka, topic=TopicId(w.kafka)
        )
        try:
            await consumer.open()
            while True:
                end = await consumer.ask_end()
                await asyncio.sleep(lag_s)
                while (missing := end - consumer.position.next_offset) > 0:
                    await consumer.step(max_records=missing, timeout_s=1.0)
        finally:
            await consumer.close()

    tasks = [asyncio.create_task(feed_on(log)) for log in w.logs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_new_version_that_lags_behind_is_waited_for_at_the_switch(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        await w.rebuild()
        await _feed_only_v1(w)  # so that the chat that the readers ask for is in both versions
        async with w.talking(), _fed(w, 1, 0.001), _fed(w, 2, 0.15):
            readers = Readers.start(w, 2)
            for _ in range(3):
                await w.cutover(2)
                await asyncio.sleep(0.05)
                await w.cutover(1)
            reads = await readers.ended()
        assert min(reads) > 0


async def _feed_only_v1(w: World) -> None:
    """Feed v1 like a projector that died before it fed the other version."""
    for log in w.logs:
        await feed_to_end(w.kafka, w.pool, log.partition, max_records=1_000)


async def test_a_cutover_without_any_projector_brings_the_new_version_up_by_itself(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        await w.rebuild()
        await w.talk(50)
        await _feed_only_v1(w)
        await w.cutover(2)
        assert await w.state(2) is State.SERVING
        await w.at_end("chat_v1", "chat_v2")
        await w.equal("chat_v1", "chat_v2")


async def test_a_cutover_waits_for_a_reader_in_the_middle_of_a_snapshot_and_lets_the_others_read_on(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        await _feed_only_v1(w)
        async with w.pool.connection() as slow, slow.transaction():
            await slow.execute("LOCK TABLE chat.active_projection IN ACCESS SHARE MODE")
            with pytest.raises(SwitchFailed, match="nothing was changed"):
                await w.cutover(2, timeout_s=1.5)
            async with w.pool.connection() as another:
                assert (await _latest(another, w.chats[0]))[0] == 5
            assert await w.state(1) is State.SERVING
        await w.cutover(2)
        assert await w.state(2) is State.SERVING


async def test_a_snapshot_from_before_the_switch_without_the_lock_would_read_the_past(
    kafka: str, database: str
) -> None:
    """Shows why readers lock chat.active_projection first: a view's switch alone cannot prevent this."""
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        await w.talk(5)
        await _feed_only_v1(w)
        async with w.pool.connection() as careless:
            before = await (await careless.execute("SELECT chat.get_latest_seq(%s)", [w.chats[0]])).fetchone()
            await careless.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await careless.execute("SELECT 1")  # the snapshot, without the lock
            await w.cutover(2)
            after = await (await careless.execute("SELECT chat.get_latest_seq(%s)", [w.chats[0]])).fetchone()
            await careless.execute("ROLLBACK")
            now = await (await careless.execute("SELECT chat.get_latest_seq(%s)", [w.chats[0]])).fetchone()
        assert (before, after, now) == ((10,), (5,), (10,))


async def test_a_persons_prepared_statements_see_their_chats_before_and_after_a_cutover(
    kafka: str, database: str
) -> None:
    """The rights of gapless_reader come with each version, and its statements outlive the switch and the old tables."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE gapless_reader")
    try:
        async with world(kafka, database) as w:
            await w.talk(5)
            async with w.projector():
                await w.at_end("chat_v1")
                async with await psycopg.AsyncConnection.connect(database, autocommit=True) as person:
                    person.prepare_threshold = 0
                    await person.execute("SET ROLE gapless_reader")

                    async def seen(user: str) -> tuple[object, ...]:
                        await person.execute("SELECT set_config('app.user_id', %s, false)", [user])
                        found = await person.execute(
                            "SELECT (SELECT count(*) FROM chat.chat_messages WHERE chat_id = %(c)s),"
                            " chat.get_latest_seq(%(c)s), (SELECT count(*) FROM chat.get_messages(%(c)s)),"
                            " chat.get_unread_count(%(c)s, %(u)s) IS NOT NULL",
                            {"c": w.chats[0], "u": user or BEN},
                        )
                        return await found.fetchone() or ()

                    async def all_is_seen(messages: int) -> None:
                        assert await seen(BEN) == (messages, messages, messages, True)
                        assert await seen(STRANGER) == (0, None, 0, False)
                        assert await seen("") == (0, None, 0, False)

                    await all_is_seen(5)
                    await w.rebuild()
                    await w.cutover(2)
                    await w.talk(1)
                    await w.at_end("chat_v2")
                    await all_is_seen(6)
                    await w.cutover(1)
                    await w.at_end("chat_v1")
                    await all_is_seen(6)
                    await w.cutover(2)
                    await drop(1, postgres=w.postgres)
                    await all_is_seen(6)
                    kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ ('get_' || 'unread')"
                    assert await (await person.execute(kept)).fetchone() == (1,)
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("DROP OWNED BY gapless_reader; DROP ROLE gapless_reader")


async def test_what_serves_is_neither_dropped_nor_rebuilt_and_what_is_dropped_can_be_built_again(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        with pytest.raises(ProjectionMissing, match="what readers see"):
            await drop(1, postgres=w.postgres)
        with pytest.raises(ProjectionMissing, match="what readers see"):
            await w.rebuild(1)
        with pytest.raises(ProjectionMissing, match="there is no projection v7"):
            await w.cutover(7)
        async with w.projector() as projector:
            await w.rebuild()

            async def both_are_fed() -> bool:
                return projector.versions == {1, 2}

            await until(both_are_fed, "both versions fed")
            await drop(2, postgres=w.postgres)
            assert [p.version for p in await projections(postgres=w.postgres)] == [1]
            await w.talk(5)
            await w.at_end("chat_v1")
            await w.rebuild()
            await w.at_end("chat_v1", "chat_v2")
        await w.equal("chat_v1", "chat_v2")


async def test_a_cutover_waits_for_search_too(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        await w.talk(50)
        await _feed_only_v1(w)
        for log in w.logs:
            await feed_to_end(w.kafka, w.pool, log.partition, version=2, max_records=1_000, feeds=(HISTORY,))
        await w.cutover(2)  # no projector runs: it feeds what is behind by itself
        async with w.pool.connection() as connection:
            rows = await (
                await connection.execute("SELECT partition, next_offset FROM chat.search_positions ORDER BY 1")
            ).fetchall()
        assert rows == [(log.partition, len(log.events)) for log in w.logs]
        await w.equal("chat_v1", "chat_v2")


BEYOND = "next_offset = next_offset + 1000"
ANOTHER_TOPIC = "topic_id = 'of yesterday', next_offset = next_offset + 1000"


@pytest.mark.parametrize("table", ["projection_positions", "search_positions"])
@pytest.mark.parametrize("how", [BEYOND, ANOTHER_TOPIC, "topic_id = 'of yesterday'"])
async def test_a_version_that_is_not_of_this_log_is_cut_over_from_at_the_end_of_the_log(
    kafka: str, database: str, how: str, table: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(50)
        await _feed_only_v1(w)
        async with w.pool.connection() as connection:
            await connection.execute(f"UPDATE chat_v1.{table} SET {how} WHERE partition = 1".encode())
        await w.rebuild()
        await w.talk(50)  # only the cutover feeds it
        await w.cutover(2)
        assert await w.state(2) is State.SERVING
        async with w.pool.connection() as connection:
            there = await positions(connection, 2)
            assert there[Place(table == "search_positions", 1)] == len(w.logs[1].events)
        async with w.projector():
            await w.at_end("chat_v2")
        await w.rebuild(3)
        await w.equal("chat_v2", "chat_v3")


@pytest.mark.parametrize("how", [BEYOND, ANOTHER_TOPIC, "last_record = sha256('what was there')"])
async def test_a_version_that_is_not_of_this_log_is_not_cut_over_to(kafka: str, database: str, how: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await _feed_only_v1(w)
        await w.rebuild()
        async with w.pool.connection() as connection:
            await connection.execute(f"UPDATE chat_v2.projection_positions SET {how} WHERE partition = 1".encode())
        with pytest.raises(ProjectionMissing, match=r"still show chat_v1.*chat_v2/1.*gapless projection rebuild"):
            await w.cutover(2)
        assert await w.state(1) is State.SERVING


async def test_a_version_of_another_mapping_is_not_cut_over_to_and_gets_no_row(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        await w.talk(5)
        await _feed_only_v1(w)
        async with w.pool.connection() as connection:
            await connection.execute("UPDATE chat.projections SET mapping_version = 99 WHERE version = 2")
            before = await dump(connection, "chat_v2")
        with pytest.raises(ProjectionMissing, match="row mapping 99"):
            await w.cutover(2)
        assert await w.state(1) is State.SERVING
        async with w.pool.connection() as connection:
            assert await dump(connection, "chat_v2") == before


async def test_what_serves_and_is_of_another_mapping_is_told_by_readyz_and_a_metric(kafka: str, database: str) -> None:
    async with world(kafka, database) as w, w.projector() as projector:
        for mapping, fed in ((MAPPING_VERSION, True), (99, False), (MAPPING_VERSION, True)):
            async with w.pool.connection() as connection:
                await connection.execute("UPDATE chat.projections SET mapping_version = %s", [mapping])

            async def is_told() -> bool:
                metric = REGISTRY.get_sample_value("gapless_projector_serving_fed")
                report = await projector.readiness.report()
                said = any("row mapping 99" in reason for reason in report.needs_operator)
                return (metric, said) == (float(fed), not fed)  # noqa: B023

            await until(is_told, f"mapping {mapping} told")


async def test_what_is_no_longer_fed_is_not_cut_over_to_until_a_rebuild_has_caught_up(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        async with w.projector() as projector:
            await w.rebuild()
            with pytest.raises(ProjectionMissing, match="what readers see"):
                await stop_feeding(1, postgres=w.postgres)
            await stop_feeding(2, postgres=w.postgres)
            assert await w.state(2) is State.STOPPED

            async def one_is_fed() -> bool:
                return projector.versions == {1}

            await until(one_is_fed, "only one version fed")
            await w.talk(5)
            await w.at_end("chat_v1")
            await stop_feeding(2, postgres=w.postgres)  # again: nothing to do
            with pytest.raises(ProjectionMissing, match=r"no longer fed.*gapless projection rebuild --to v2"):
                await w.cutover(2)
            done = await w.rebuild()
            assert 0 < done.records_done < sum(len(log.events) for log in w.logs), "it went on from where it stood"
            await w.talk(5)
            await w.at_end("chat_v1", "chat_v2")
        await w.equal("chat_v1", "chat_v2")


async def test_what_is_being_built_is_not_stopped(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        async with w.pool.connection() as connection:
            await create_projection(connection, 2)
        with pytest.raises(ProjectionMissing, match="gapless projection drop v2"):
            await stop_feeding(2, postgres=w.postgres)
        async with only_one(w.postgres, 2, command="a rebuild"):
            with pytest.raises(ProjectionMissing, match="another process"):
                await stop_feeding(2, postgres=w.postgres)
        await drop(2, postgres=w.postgres)


async def test_a_version_that_was_dropped_and_built_again_is_fed_though_its_partitions_had_stopped(
    kafka: str, database: str
) -> None:
    async with world(kafka, database) as w:
        await w.talk(5)
        await w.rebuild()
        async with w.pool.connection() as connection:
            await connection.execute(f"UPDATE chat_v2.projection_positions SET {BEYOND}".encode())
        async with w.projector() as projector:

            async def both_have_stopped() -> bool:
                reasons = (await projector.readiness.report()).needs_operator
                return {f"chat_v2/{p}" in reason for p, reason in enumerate(sorted(reasons))} == {True}

            await until(both_have_stopped, "the partitions of chat_v2 stopped")
            await drop(2, postgres=w.postgres)
            await w.rebuild()
            await w.talk(5)
            await w.at_end("chat_v1", "chat_v2")

            async def is_ready() -> bool:
                return (await projector.readiness.report()).ready

            await until(is_ready, "the projector ready")


async def test_one_rebuild_of_a_version_at_a_time(kafka: str, database: str) -> None:
    async with world(kafka, database) as w, only_one(w.postgres, 2, command="a rebuild"):
        with pytest.raises(ProjectionMissing, match="another process"):
            await w.rebuild()


async def test_tables_of_another_mapping_are_neither_fed_nor_gone_on_with(kafka: str, database: str) -> None:
    async with world(kafka, database) as w:
        async with w.pool.connection() as connection:
            await create_projection(connection, 2)
            await connection.execute("UPDATE chat.projections SET mapping_version = 0 WHERE version = 2")
        with pytest.raises(ProjectionMissing, match="row mapping 0"):
            await w.rebuild()
        async with w.pool.connection() as connection:
            await connection.execute("UPDATE chat.projections SET fed_since = now() WHERE version = 2")
        async with w.projector() as projector:
            await w.talk(5)
            await w.at_end("chat_v1")
            assert projector.versions == {1}


STEPS: Final = {
    folder: {
        (kind, int(number))
        for name in load_sql(f"services.projector.versions.sql.{folder}").names
        for kind, number in re.findall(r"^(control|tables|indexes)_(\d{4})", name)
    }
    for folder in ("control", "projection")
}
"""Kind and number of each step of a migration, by folder."""


async def test_migrations_run_by_two_processes_at_once_and_again_change_nothing(database: str) -> None:
    postgres = postgres_of(database)

    async def run() -> None:
        connection = await connect(postgres, application_name="test", autocommit=True)
        await migrate(connection)
        await connection.close()

    await asyncio.gather(*(run() for _ in range(4)))
    await run()
    (only,) = await projections(postgres=postgres)
    assert (only.version, only.state, only.schema) == (1, State.SERVING, "chat_v1")
    connection = await connect(postgres, application_name="test", autocommit=True)
    rows = await (await connection.execute("SELECT scope, number FROM chat.schema_migrations ORDER BY 1, 2")).fetchall()
    await connection.close()
    projection, control = STEPS["projection"], STEPS["control"]
    assert rows == sorted({(f"chat_v1/{kind}", number) for kind, number in projection} | control)
