"""Real projector processes: killed at each crash point, two at once, one taking over from another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from devstack.ports import choose_ports
from schemas.ids import ChatId
from services.projector import app as _declares_the_seams
from services.projector.writing.apply import AFTER_COMMIT, BEFORE_COMMIT
from services.runtime.postgres.pool import connect
from services.runtime.process.lifecycle import ExitCode
from services.runtime.settings import KafkaSettings
from tests.support import forked
from tests.support.chat_log import ANNA, BEN, ChatLog
from tests.support.projection import (
    LogWriter,
    contradictions,
    dump,
    empty,
    log_of_its_own,
    make_topics,
    postgres_of,
    until,
    write_records,
    write_search_records,
)

assert _declares_the_seams
PARTITIONS = 4
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(slots=True)
class Process:
    """A running `gapless projector`."""

    process: forked.Process
    url: str

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await client.get(f"{self.url}{path}", timeout=5)

    async def is_ready(self) -> bool:
        try:
            return (await self.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def metric(self, name: str) -> float:
        """Return the value of a metric, summed over its labels."""
        lines = (await self.get("/metrics")).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)


@dataclass(slots=True)
class Scene:
    kafka: KafkaSettings
    dsn: str
    logs: list[ChatLog]
    writers: list[LogWriter]
    chats: list[ChatId]

    @asynccontextmanager
    async def projector(self, *, crash_at: str = "") -> AsyncIterator[Process]:
        (port,) = choose_ports(1)
        environment = {
            **os.environ,
            "GAPLESS_KAFKA_BOOTSTRAP": self.kafka.bootstrap_servers,
            "GAPLESS_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "GAPLESS_KAFKA_PARTITIONS": str(PARTITIONS),
            "GAPLESS_KAFKA_SESSION_TIMEOUT_S": "2",
            "GAPLESS_POSTGRES_DSN": self.dsn,
            "GAPLESS_OPS_PORT": str(port),
            "GAPLESS_CRASH_AT": crash_at,
        }
        process = await forked.start_gapless("projector", env=environment)
        try:
            yield Process(process, f"http://127.0.0.1:{port}")
        finally:
            asked = process.returncode is None
            if asked:
                process.terminate()
            code = await asyncio.wait_for(process.wait(), 30)
            assert not asked or code == ExitCode.STOPPED

    async def talk(self, messages: int) -> None:
        for log, chat, writer in zip(self.logs, self.chats, self.writers, strict=True):
            for n in range(messages):
                log.send(chat, (ANNA, BEN)[n % 2], f"text {n}")
            await writer.flush()

    async def positions(self) -> dict[int, int]:
        try:
            async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
                rows = await (
                    await connection.execute(
                        "SELECT partition, least(p.next_offset, s.next_offset)"
                        " FROM chat.projection_positions p JOIN chat.search_positions s USING (partition)"
                    )
                ).fetchall()
        except psycopg.errors.UndefinedTable:  # the projector has not migrated yet
            return {}
        return dict(rows)

    async def at_end(self) -> bool:
        return await self.positions() == {log.partition: len(log.events) for log in self.logs}

    async def is_right(self) -> None:
        """Check that the tables match the log, folded again from its start."""
        connection = await connect(postgres_of(self.dsn), application_name="test", autocommit=True)
        try:
            assert await contradictions(connection, "chat_v1") == []
            found = await dump(connection, "chat_v1")
            await empty(connection, 1)
            for log in self.logs:
                await write_records(connection, 1, log.events, partition=log.partition)
                await write_search_records(connection, 1, log.events, partition=log.partition)
            expected = await dump(connection, "chat_v1")
        finally:
            await connection.close()
        for table in ("chats", "chat_participants", "chat_messages", "outcomes", "message_search"):
            assert found[table] == expected[table], table


@asynccontextmanager
async def scene(kafka: str, dsn: str) -> AsyncIterator[Scene]:
    settings = log_of_its_own(kafka, partitions=PARTITIONS)
    await make_topics(settings)
    logs = [ChatLog(partition=p, partitions=PARTITIONS) for p in range(PARTITIONS)]
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(LogWriter(settings, log)) for log in logs]
        chats = []
        for log in logs:
            log.open()
            chats.append(log.create(ANNA, log.name_here(ANNA, "talk"), [BEN]))
        yield Scene(settings, dsn, logs, writers, chats)


@pytest.mark.parametrize("seam", [BEFORE_COMMIT, AFTER_COMMIT])
async def test_a_projector_killed_at_a_commit_is_gone_on_from_with_nothing_lost_or_twice(
    kafka: str, database: str, seam: str
) -> None:
    async with scene(kafka, database) as s:
        async with s.projector(crash_at=f"{seam}:{PARTITIONS + 3}") as victim:
            async with asyncio.timeout(60):
                while victim.process.returncode is None:
                    await s.talk(3)
                    await asyncio.sleep(0.05)
            assert victim.process.returncode == -signal.SIGKILL
        await s.talk(1)  # the killed process may have been at the end already
        async with s.projector():
            await until(s.at_end, "the projection at the end of the log", timeout_s=60)
        await s.is_right()


async def test_two_projectors_share_the_partitions_and_one_takes_over_when_the_other_dies(
    kafka: str, database: str
) -> None:
    async with scene(kafka, database) as s, s.projector() as first, s.projector() as second:
        await until(first.is_ready, "the first projector ready", timeout_s=60)
        await until(second.is_ready, "the second projector ready", timeout_s=60)

        async def both_work() -> bool:
            await s.talk(2)
            applied = [await p.metric("gapless_projector_events_applied_total") for p in (first, second)]
            return min(applied) > 0

        await until(both_work, "both projectors applying events", timeout_s=60)
        await until(s.at_end, "the projection at the end of the log", timeout_s=60)
        first.kill()
        await first.process.wait()
        await s.talk(5)
        await until(s.at_end, "the survivor at the end of every partition", timeout_s=60)
        assert await second.is_ready()
        await s.is_right()


async def test_a_projector_says_what_keeps_it_from_its_work_and_that_it_is_well_again(
    kafka: str, database: str
) -> None:
    async with scene(kafka, database) as s, s.projector() as projector:
        await s.talk(1)
        await until(s.at_end, "the projection at the end of the log", timeout_s=60)
        assert await projector.is_ready()
        s.logs[0].index += 7  # a hole in one partition's indexes
        await s.talk(1)

        async def others_go_on() -> bool:
            positions = await s.positions()
            return all(positions[log.partition] == len(log.events) for log in s.logs[1:])

        await until(others_go_on, "the other partitions at their ends")

        async def said() -> bool:
            return (await projector.get("/readyz")).status_code == 503

        await until(said, "readyz telling of the stopped partition")
        reasons = (await projector.get("/readyz")).json()["reasons"]
        assert [reason.split(" at offset")[0] for reason in sorted(reasons)] == [
            "chat_v1.search/0 stopped", "chat_v1/0 stopped"
        ]  # fmt: skip
        assert await projector.metric("gapless_projector_partition_stopped") == 2, "the tables and their search"
        assert (await projector.get("/healthz")).status_code == 200
