"""Says what a rebuild would read, write and take, and changes nothing.

Rows and disk space are those of the serving version, in proportion to the log. The time comes from a sample: the first
records of the longest partition are folded by the code of a rebuild into tables that exist in one transaction only,
with their indexes, and the transaction is rolled back.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import FEEDS, Both
from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.settings import topic_names
from services.projector.versions.migrations import create_indexes, create_tables
from services.projector.versions.rebuild import useful_processes
from services.projector.versions.registry import REGISTRY, Projection, State, list_projections, positions
from services.projector.writing.apply import load_position, schema_name
from services.runtime.kafka.topics import end_offsets
from services.runtime.postgres.pool import Connection, connect
from services.runtime.settings import KafkaSettings, PostgresSettings

APPLICATION: Final = "gapless-plan"
SAMPLE_VERSION: Final = 2_000_000_000
"""The version of the sample's tables, which no other transaction ever sees."""
SAMPLE_RECORDS: Final = 50_000
SAMPLE_S: Final = 5.0
"""Time after which no further batch of the sample is begun."""
BATCH_RECORDS: Final = 5_000
READ_TIMEOUT_S: Final = 2.0


class TableSize(NamedTuple):
    """A table with its indexes."""

    name: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What folding the sample took."""

    records: int
    rows: int
    load_s: float
    index_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rebuild of a version would do."""

    version: int
    exists: Projection | None
    """The version, if it exists already: then a rebuild continues it."""
    serving: int | None
    next_offsets: Mapping[int, int]
    """Partition → the offset at which a rebuild would begin."""
    ends: Mapping[int, int]
    """Partition → the end of its log."""
    tables: tuple[TableSize, ...]
    """What the version will hold when it is built, by table."""
    there_bytes: int
    """What the version takes already."""
    free_bytes: int | None
    """Free space on the disk of the database; None if it cannot be known from here."""
    sample: Sample | None
    """None if the log is empty."""
    processes: int

    @property
    def records(self) -> int:
        """Number of records to read."""
        return sum(max(0, end - self.next_offsets.get(p, 0)) for p, end in self.ends.items())

    @property
    def needed_bytes(self) -> int:
        """Disk space that the rebuild would take in addition."""
        return max(0, sum(table.size_bytes for table in self.tables) - self.there_bytes)

    @property
    def refusal(self) -> str | None:
        """Why a rebuild would be refused now, as a clause; None if it would not."""
        if self.exists is None:
            return None
        if self.exists.state is State.SERVING:
            return f"{self.exists.schema} is what readers see now"
        mapping = self.exists.mapping_version
        if mapping != MAPPING_VERSION:
            return f"{self.exists.schema} is of row mapping {mapping}, this release has {MAPPING_VERSION}"
        return None

    @property
    def eta_s(self) -> tuple[float, float] | None:
        """The time it would take: if all processes load at full speed, and if they are no faster than one. None if no
        sample could be taken. Indexes are created in either case, for the whole version."""
        if self.sample is None:
            return None
        load_s = self.records * self.sample.load_s / self.sample.records
        index_s = sum(self.ends.values()) * self.sample.index_s / self.sample.records
        return load_s / self.processes + index_s, load_s + index_s


async def plan(version: int, *, kafka: KafkaSettings, postgres: PostgresSettings) -> Plan:
    """Return what a rebuild of chat_v<version> would do now. It changes nothing.

    Raises PartitionStopped if the sample cannot be folded; KafkaError, psycopg.Error, TimeoutError.
    """
    async with end_offsets(kafka.connection, topic_names(kafka).events, range(kafka.partitions)) as ask_ends:
        ends = await ask_ends()
    connection = await connect(postgres, application_name=APPLICATION, autocommit=True)
    try:
        async with connection.work():
            there = await list_projections(connection)
            exists = next((p for p in there if p.version == version), None)
            serving = next((p for p in there if p.state is State.SERVING), None)
            begun = await _next_offsets(connection, version) if exists is not None else {}
            folded = sum((await _next_offsets(connection, serving.version)).values()) if serving is not None else 0
            measured = await _sizes(connection, schema_name(serving.version)) if serving is not None and folded else ()
            there_bytes = sum(t.size_bytes for t in await _sizes(connection, schema_name(version))) if exists else 0
            free = await _free_bytes(connection)
            sample, sampled = await _sample(connection, kafka, ends) if there else (None, ())
    finally:
        await connection.close()
    if not measured and sample is not None:
        measured, folded = sampled, sample.records
    left = sum(max(0, end - begun.get(p, 0)) for p, end in ends.items())
    return Plan(
        version=version,
        exists=exists,
        serving=serving.version if serving is not None else None,
        next_offsets={p: begun.get(p, 0) for p in ends},
        ends=ends,
        tables=in_proportion(measured, folded, sum(ends.values())),
        there_bytes=there_bytes,
        free_bytes=free,
        sample=sample,
        processes=useful_processes(left, kafka.partitions),
    )


def in_proportion(measured: tuple[TableSize, ...], folded: int, total: int) -> tuple[TableSize, ...]:
    """Return what tables that were folded from `folded` records would be, folded from `total`."""
    if not folded:
        return ()
    return tuple(
        TableSize(name, round(rows * total / folded), round(size_bytes * total / folded))
        for name, rows, size_bytes in measured
    )


async def _next_offsets(connection: Connection, version: int) -> dict[int, int]:
    """Return partition → next offset of its tables."""
    there = await positions(connection, version)
    return {place.partition: offset for place, offset in there.items() if not place.of_search}


async def _sizes(connection: Connection, schema: str) -> tuple[TableSize, ...]:
    found = await (await connection.execute(REGISTRY["table_sizes"], {"schema": schema})).fetchall()
    sizes = []
    for name, size_bytes, rows in found:
        if rows is None:
            count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
            row = await (await connection.execute(count)).fetchone()
            assert row is not None
            rows = row[0]
        sizes.append(TableSize(name, rows, size_bytes))
    return tuple(sizes)


async def _free_bytes(connection: Connection) -> int | None:
    """Return the free space on the disk of the database, if the server runs here and lets us know its folder."""
    try:
        async with connection.transaction():
            ask = "SELECT current_setting('data_directory'), pg_postmaster_start_time()"
            row = await (await connection.execute(ask)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    assert row is not None
    return await asyncio.to_thread(_free_here, Path(row[0]), row[1])


def _free_here(folder: Path, started_at: datetime) -> int | None:
    """Return the free space of a folder, if the server that started then has it on this machine: another machine, or a
    container, may have a folder of the same name."""
    try:
        begun_s = int((folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()[2])
        return shutil.disk_usage(folder).free if abs(begun_s - started_at.timestamp()) <= 2 else None
    except (OSError, ValueError, IndexError):
        return None


class _Alone:
    """Lends one connection, in whose transaction everything happens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._connection


async def _sample(
    connection: Connection, kafka: KafkaSettings, ends: Mapping[int, int]
) -> tuple[Sample | None, tuple[TableSize, ...]]:
    """Fold a sample in a transaction that is rolled back. Returns what it took, and the sizes of its tables."""
    partition = max(ends, key=lambda p: (ends[p], -p), default=None)
    if partition is None or not ends[partition]:
        return None, ()
    async with connection.transaction(force_rollback=True):
        await connection.execute(REGISTRY["take_your_time"])
        await create_tables(connection, SAMPLE_VERSION)
        topic = TopicId(kafka)
        for feed in FEEDS:  # a batch moves both positions
            statements, topic_id = feed.sql(SAMPLE_VERSION), await topic.get()
            await load_position(connection, statements, partition=partition, topic_id=topic_id)
        consumer = PartitionConsumer(
            version=SAMPLE_VERSION,
            partition=partition,
            pool=_Alone(connection),
            kafka=kafka,
            topic=topic,
            durable=False,
            feed=Both(SAMPLE_VERSION),
        )
        records = rows = 0
        try:
            await consumer.open()
            began_s = time.monotonic()
            end = min(consumer.end_offset, SAMPLE_RECORDS)
            while consumer.position.next_offset < end and time.monotonic() - began_s < SAMPLE_S:
                step = await consumer.step(max_records=BATCH_RECORDS, timeout_s=READ_TIMEOUT_S)
                if step is None:
                    await consumer.ask_end()
                    continue
                records, rows = records + step.records, rows + step.rows
            load_s = time.monotonic() - began_s
        finally:
            await consumer.close()
        began_s = time.monotonic()
        await create_indexes(connection, SAMPLE_VERSION)
        index_s = time.monotonic() - began_s
        sizes = await _sizes(connection, schema_name(SAMPLE_VERSION))
    if not records:
        return None, ()
    return Sample(records=records, rows=rows, load_s=load_s, index_s=index_s), sizes
