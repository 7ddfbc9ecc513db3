"""The environment of every benchmark: real servers, with logs and databases of its own, and our services.

async with Ground.embedded() as ground:
    log = await ground.log(partitions=1)
    await ground.decided(log, loads)
    async with ground.service("projector", log) as projector:
        ...
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import sql

from benchmarks.load.filling import Load, fill
from benchmarks.servers.database import blocking_session, session
from benchmarks.servers.processes import DEADLINE_S, Mark, Service, mark, running
from devstack.stack import Stack
from schemas.topics import TopicNames, topic_specs
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.topics import create_topics

REPLY_PARTITIONS: Final = 2
SECRET: Final = "a secret of the benchmarks, which sign their tokens with it"
CHECK_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Topics of one run, and an empty database for their read model."""

    names: TopicNames
    partitions: int
    dsn: str

    @property
    def prefix(self) -> str:
        return self.names.commands.removesuffix("chat.commands")


class Ground:
    """Servers, and a folder for the services' state and logs."""

    def __init__(self, kafka: str, dsn: str, folder: Path, *, broker_pid: int | None, postgres_pid: int | None) -> None:
        """Use running servers. Without their process ids, the servers' CPU is not measured."""
        self.kafka = kafka
        self.dsn = dsn
        self.broker_pid = broker_pid
        self._postgres_pid = postgres_pid
        self._folder = folder
        self._folders = 0

    @classmethod
    @asynccontextmanager
    async def embedded(cls) -> AsyncIterator[Ground]:
        """Yield one broker and one PostgreSQL with their defaults, in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            async with Stack(folder / "servers") as servers:
                yield cls(
                    servers.bootstrap_servers,
                    servers.postgres_dsn,
                    folder,
                    broker_pid=servers.kafka.brokers[0].pid,
                    postgres_pid=servers.postgres.pid,
                )

    @property
    def connection(self) -> KafkaConnection:
        """The parameters for a client of the broker."""
        return KafkaConnection.plain(self.kafka)

    async def log(self, *, partitions: int) -> Log:
        """Create empty topics with production settings under a new prefix, and an empty database."""
        name = f"b{uuid.uuid4().hex[:8]}"
        names = TopicNames.prefixed(f"{name}.")
        await create_topics(
            self.connection,
            topic_specs(names, partitions=partitions, reply_partitions=REPLY_PARTITIONS, replication_factor=1),
        )
        return Log(names=names, partitions=partitions, dsn=self._database())

    def with_fresh_database(self, log: Log) -> Log:
        """Return the same log with a new, empty database."""
        return replace(log, dsn=self._database())

    def _database(self) -> str:
        name = f"b{uuid.uuid4().hex[:8]}"
        with blocking_session(self.dsn) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return urlsplit(self.dsn)._replace(path=f"/{name}").geturl()

    @asynccontextmanager
    async def service(
        self, name: str, log: Log, *, settings: dict[str, str] | None = None, state: Path | None = None
    ) -> AsyncIterator[Service]:
        """Run `gapless <name>` with the defaults on this log. `state`: the folder for a sequencer's state; a new one by
        default."""
        folder = self.fresh_folder()
        variables = self.variables(log) | {"GAPLESS_SEQUENCER_STATE_DIR": str(state or folder / "state")}
        async with running(name, folder, variables | (settings or {})) as service:
            yield service

    def variables(self, log: Log) -> dict[str, str]:
        """Return the variables of every service and command on a log."""
        return {
            "GAPLESS_KAFKA_BOOTSTRAP": self.kafka,
            "GAPLESS_KAFKA_TOPIC_PREFIX": log.prefix,
            "GAPLESS_KAFKA_PARTITIONS": str(log.partitions),
            "GAPLESS_KAFKA_REPLY_PARTITIONS": str(REPLY_PARTITIONS),
            "GAPLESS_POSTGRES_DSN": log.dsn,
            "GAPLESS_JWT_SECRET": SECRET,
        }

    def fresh_folder(self) -> Path:
        self._folders += 1
        folder = self._folder / f"run-{self._folders}"
        folder.mkdir()
        return folder

    async def decided(self, log: Log, loads: Sequence[Load]) -> int:
        """Append the commands and let a sequencer decide them all. Returns the number of records of events."""
        await fill(self.connection, log.names.commands, loads)
        wanted = sum(load.records for load in loads) + log.partitions
        async with (
            Ends.of(self.connection, log.names.events, log.partitions) as ends,
            self.service("sequencer", log) as s,
        ):
            deadline = time.monotonic() + DEADLINE_S
            while (found := await ends.total()) < wanted:
                s.refuse_to_wait(deadline, f"{wanted} records of events, there are {found}")
                await asyncio.sleep(CHECK_EVERY_S)
        return found

    async def projected(self, log: Log, records: int) -> None:
        """Let a projector write all records of events into the log's database."""
        async with self.service("projector", log) as projector, Positions.of(log) as positions:
            deadline = time.monotonic() + DEADLINE_S
            while (found := await positions.total()) < records:
                projector.refuse_to_wait(deadline, f"{records} records projected, there are {found}")
                await asyncio.sleep(CHECK_EVERY_S)

    def broker_mark(self) -> Mark | None:
        return None if self.broker_pid is None else mark(self.broker_pid)

    def postgres_cpu_s(self) -> float:
        """Return the CPU seconds of the server and its current children; 0 if its process is unknown. The server's own
        include those of children that ended."""
        if self._postgres_pid is None:
            return 0.0
        server = psutil.Process(self._postgres_pid)
        times = server.cpu_times()
        total = float(times.user + times.system + times.children_user + times.children_system)
        for child in server.children():
            try:
                of_child = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += of_child.user + of_child.system
        return total


class Ends:
    """Counts the records of a topic: cheap enough to be called a hundred times a second."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, p) for p in range(partitions)]

    @classmethod
    @asynccontextmanager
    async def of(cls, kafka: KafkaConnection, topic: str, partitions: int) -> AsyncIterator[Ends]:
        consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=None)
        await consumer.start()
        try:
            yield cls(consumer, topic, partitions)
        finally:
            await consumer.stop()

    async def total(self) -> int:
        """Return the number of records in all partitions of a topic that was never trimmed."""
        return sum((await self.each()).values())

    async def each(self) -> dict[int, int]:
        """Return the end of each partition."""
        found = await self._consumer.end_offsets(self._partitions)
        return {partition.partition: int(end) for partition, end in found.items()}


class Positions:
    """Counts the records that a projection has applied."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, log: Log) -> AsyncIterator[Positions]:
        async with await session(log.dsn) as connection:
            yield cls(connection)

    async def total(self) -> int:
        """Return the number of records; 0 if there are no tables yet."""
        try:
            cursor = await self._connection.execute("SELECT sum(next_offset) FROM chat_v1.projection_positions")
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return 0
        row = await cursor.fetchone()
        return int(row[0]) if row is not None and row[0] is not None else 0
