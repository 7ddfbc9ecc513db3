"""What a consumer fills: the tables of a projection, or its search alone. Each has a position of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

from services.projector.mapping.decode import AnyEvent
from services.projector.mapping.lookups import lookups_of
from services.projector.mapping.rows import changes_of
from services.projector.mapping.search import search_changes_of
from services.projector.writing.apply import apply_sql, look_up, schema_name, write_batch
from services.projector.writing.guard import Move
from services.projector.writing.search import search_sql, write_search
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql

OUTCOMES_KEPT: Final = timedelta(days=7)


def outcomes_since_ms() -> int:
    """Return the time before which outcomes are no longer kept, in ms since 1970 UTC."""
    return int((time.time() - OUTCOMES_KEPT.total_seconds()) * 1000)


class Feed(Protocol):
    """What a consumer fills."""

    @property
    def patient(self) -> bool:
        """Whether its records may gather for a while before they are read, as `PartitionReader` says."""
        ...

    def name(self, version: int) -> str:
        """Return its name in logs and metrics."""
        ...

    def sql(self, version: int) -> BoundSql:
        """Return its statements, among them those of writing/sql/positions.sql."""
        ...

    async def write(self, connection: Connection, sql: BoundSql, move: Move, events: Sequence[AnyEvent]) -> int:
        """Make a move with its events, in one transaction. Returns the number of rows written.

        Raises LogCorrupt, LostRace, PartitionStopped, psycopg.Error.
        """
        ...


class History:
    """All tables but those of search."""

    patient = False

    def name(self, version: int) -> str:
        return schema_name(version)

    def sql(self, version: int) -> BoundSql:
        return apply_sql(version)

    async def write(self, connection: Connection, sql: BoundSql, move: Move, events: Sequence[AnyEvent]) -> int:
        looked_up = await look_up(connection, sql, lookups_of(events))
        changes = changes_of(events, looked_up, partition=move.partition, outcomes_since_ms=outcomes_since_ms())
        await write_batch(connection, sql, move, changes)
        return changes.rows


class Search:
    """The table message_search."""

    patient = True

    def name(self, version: int) -> str:
        return f"{schema_name(version)}.search"

    def sql(self, version: int) -> BoundSql:
        return search_sql(version)

    async def write(self, connection: Connection, sql: BoundSql, move: Move, events: Sequence[AnyEvent]) -> int:
        changes = search_changes_of(events)
        await write_search(connection, sql, move, changes)
        return changes.rows


class Both:
    """All tables, for a load by one process alone: history and search are at one position, and a batch moves both.

    Each moves in a transaction of its own, with its own guard. If the second one fails, search is a batch behind, and
    both must go on as feeds of their own.
    """

    patient = False

    def __init__(self, version: int) -> None:
        self._search_sql = SEARCH.sql(version)

    def name(self, version: int) -> str:
        return HISTORY.name(version)

    def sql(self, version: int) -> BoundSql:
        return HISTORY.sql(version)

    async def write(self, connection: Connection, sql: BoundSql, move: Move, events: Sequence[AnyEvent]) -> int:
        rows = await HISTORY.write(connection, sql, move, events)
        return rows + await SEARCH.write(connection, self._search_sql, move, events)


HISTORY: Final = History()
SEARCH: Final = Search()
FEEDS: Final[tuple[Feed, ...]] = (HISTORY, SEARCH)
"""All of a projection, in the order in which a rebuild fills them."""
