"""Measures how far the writer is behind the commands, and each projection behind the events: in records and seconds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from schemas.errors import LogCorrupt
from schemas.events import decode_term_opened
from schemas.log import Stamp, read_stamp
from schemas.topics import TopicNames
from schemas.wire.encoding import Undecodable
from services.ops.verify.projection.snapshot import projections
from services.ops.verify.reading import partition_reader, records_until, topics_of
from services.runtime.kafka.reader import PartitionReader
from services.runtime.postgres.pool import connect
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import KafkaSettings, PostgresSettings

FIRST_WINDOW: Final = 64
_SQL: Final = load_sql("services.ops.inspect.sql", "lag.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Number of records not processed yet, and the age in seconds of the oldest (0 if none)."""

    records: int
    seconds: float
    beyond: int = 0
    """How far the position is ahead of the log: records were lost, or it belongs to another log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBacklog:
    """The backlogs of one partition."""

    partition: int
    undecided: Backlog
    """Commands without an outcome."""
    unprojected: Mapping[str, Backlog]
    """Projection ("v1"), or its search ("v1 search") → events that it has not applied."""


Positions = Callable[[], Awaitable[dict[str, dict[int, int]]]]
"""Returns version ("v1"), or its search ("v1 search") → partition → the next offset to apply."""


async def measure_lag(kafka: KafkaSettings, postgres: PostgresSettings) -> list[PartitionBacklog]:
    """Return the lag of every partition. Raises KafkaError, psycopg.OperationalError.

    Each end is read before the position that is compared with it, so a lag is never overstated: whatever is counted
    was in the log and not applied at one moment.
    """
    names = await topics_of(kafka)
    async with projection_offsets(postgres) as positions:
        return [await _partition(kafka, names, partition, positions) for partition in range(kafka.partitions)]


@asynccontextmanager
async def projection_offsets(postgres: PostgresSettings) -> AsyncIterator[Positions]:
    """Open a session that reads the positions of all projections, anew at each call."""
    connection = await connect(postgres, application_name="gapless-lag", autocommit=True, read_only=True)

    async def positions() -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        async with connection.work():
            for version in await projections(connection):
                for name, block in ((version, "positions"), (f"{version} search", "search_positions")):
                    cursor = await connection.execute(_SQL.compose(block, schema=f"chat_{version}"))
                    found[name] = dict(await cursor.fetchall())
        return found

    try:
        yield positions
    finally:
        await connection.close()


async def _partition(kafka: KafkaSettings, names: TopicNames, partition: int, positions: Positions) -> PartitionBacklog:
    async with (
        partition_reader(kafka, names.commands, partition) as commands,
        partition_reader(kafka, names.events, partition) as events,
    ):
        return await backlog_of(commands, events, partition, positions)


async def backlog_of(
    commands: PartitionReader, events: PartitionReader, partition: int, positions: Positions
) -> PartitionBacklog:
    """Return the lag of a partition, by readers of its two topics."""
    first_command, end_of_commands = await commands.bounds()
    start, end = await events.bounds()
    applied = await positions()
    next_command = await next_undecided(events, start, end)
    undecided = await _behind(commands, max(next_command, first_command), end_of_commands)
    unprojected = {
        version: await _behind(events, by_partition.get(partition, 0), end) for version, by_partition in applied.items()
    }
    return PartitionBacklog(partition=partition, undecided=undecided, unprojected=unprojected)


async def next_undecided(events: PartitionReader, start: int, end: int) -> int:
    """Return the command offset after the last decided one, from the tail of the log; 0 for an empty log.

    The tail is read in windows that double until they contain an outcome of the last term, or an opening that sets the
    next command: a record of the highest (term, index) is valid, or a copy of the valid one.
    """
    window = FIRST_WINDOW
    while True:
        low = max(start, end - window)
        await events.seek(low)
        last: Stamp | None = None
        commands_from: tuple[int, int] | None = None
        async for record in records_until(events, end):
            if isinstance(record, Undecodable):
                continue
            stamp = _stamp(record.headers)
            if stamp is None:
                continue
            if stamp.index == 0:
                opened = decode_term_opened(record.value or b"{}").commands_from
                commands_from = (stamp.term, opened) if opened is not None else commands_from
            elif last is None or (stamp.term, stamp.index) > (last.term, last.index):
                last = stamp
        if commands_from is not None and (last is None or last.term < commands_from[0]):
            return commands_from[1]
        if last is not None:
            return last.command_offset + 1
        if low == start:
            return 0
        window *= 4


def _stamp(headers: object) -> Stamp | None:
    """Return the stamp, or None: a record without one is skipped here; `log verify` reports it."""
    try:
        return read_stamp(headers)  # type: ignore[arg-type]
    except LogCorrupt:
        return None


async def _behind(reader: PartitionReader, position: int, end: int) -> Backlog:
    if position > end:  # applied since the end was read, if the log has grown to there
        _, newest_end = await reader.bounds()
        return Backlog(records=0, seconds=0.0, beyond=max(0, position - newest_end))
    if position == end:
        return Backlog(records=0, seconds=0.0)
    await reader.seek(position)
    [since_ms] = [record.timestamp async for record in records_until(reader, position + 1)][:1] or [0]
    seconds = max(0.0, time.time() - since_ms / 1000) if since_ms else 0.0
    return Backlog(records=end - position, seconds=round(seconds, 3))
