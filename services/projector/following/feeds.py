"""What a consumer fills: the tables of a projection, or its search alone. Each has a position of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from services.projector.mapping.decode import AnyEvent
from services.projector.mapping.lookups import lookups_of
from services.projector.mapping.rows import changes_of
from services.projector.mapping.search import search_changes_of
from services.projector.mapping.validity import ReaderPosition
from services.projector.writing.apply import apply_sql, look_up, schema_name, write_batch
from services.projector.writing.search import search_sql, write_search
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql

OUTCOMES_KEPT: Final = timedelta(days=7)


def outcomes_since_ms() -> int:
    """Return the time before which outcomes are no longer kept, in ms since 1970 UTC."""
    return int((time.time() - OUTCOMES_KEPT.total_seconds()) * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The events between two positions of a partition."""

    partition: int
    topic_id: str
    start: ReaderPosition
    end: ReaderPosition
    events: Sequence[AnyEvent]
    last_record: bytes | None
    """The digest of the record before `end`, or None if it is not known."""
    durable: bool
    """For this and for what `write` raises, see `apply.write_batch`."""


class Feed(Protocol):
    """What a consumer fills."""

    def name(self, version: int) -> str:
        """Return its name in logs and metrics."""
        ...

    def sql(self, version: int) -> BoundSql:
        """Return its statements, among them those of writing/sql/positions.sql."""
        ...

    async def write(self, connection: Connection, sql: BoundSql, batch: Batch) -> int:
        """Write a batch in one transaction, guarded by its start. Returns the number of rows.

        Raises LogCorrupt, LostRace, PartitionStopped, psycopg.Error.
        """
        ...


class History:
    """All tables but those of search."""

    def name(self, version: int) -> str:
        return schema_name(version)

    def sql(self, version: int) -> BoundSql:
        return apply_sql(version)

    async def write(self, connection: Connection, sql: BoundSql, batch: Batch) -> int:
        looked_up = await look_up(connection, sql, lookups_of(batch.events))
        changes = changes_of(batch.events, looked_up, partition=batch.partition, outcomes_since_ms=outcomes_since_ms())
        await write_batch(
            connection,
            sql,
            partition=batch.partition,
            topic_id=batch.topic_id,
            start=batch.start,
            end=batch.end,
            changes=changes,
            last_record=batch.last_record,
            durable=batch.durable,
        )
        return changes.rows


class Search:
    """The table message_search."""

    def name(self, version: int) -> str:
        return f"{schema_name(version)}.search"

    def sql(self, version: int) -> BoundSql:
        return search_sql(version)

    async def write(self, connection: Connection, sql: BoundSql, batch: Batch) -> int:
        changes = search_changes_of(batch.events)
        await write_search(
            connection,
            sql,
            partition=batch.partition,
            topic_id=batch.topic_id,
            start=batch.start,
            end=batch.end,
            changes=changes,
            last_record=batch.last_record,
            durable=batch.durable,
        )
        return changes.rows


HISTORY: Final = History()
SEARCH: Final = Search()
FEEDS: Final[tuple[Feed, ...]] = (HISTORY, SEARCH)
"""All of a projection, in the order in which a rebuild fills them."""
