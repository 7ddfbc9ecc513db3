"""The tables of a projection at one moment: one snapshot, and its positions in the log, read inside it.

The projector writes rows and its position in one transaction, so a snapshot holds exactly what the log says up to
`next_offset` of each partition, however much the projector writes meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Final

from psycopg import IsolationLevel
from psycopg.sql import SQL

from schemas.log import Head
from services.ops.errors import UsageError
from services.ops.verify.projection.tables import EPOCH, Row, Table, Value, canonical_row, columns_in_postgres
from services.runtime.postgres.pool import Connection, connect
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import PostgresSettings

KEEP_OUTCOMES_S: Final = 7 * 86_400
CLOCKS_DIFFER_S: Final = 600
"""Outcomes this close to the end of their keep time are not compared: the pruning process has its own clock."""
PAGE_ROWS: Final = 5_000
_SQL: Final = load_sql("services.ops.verify.sql", "tables.sql", fragments=columns_in_postgres())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionPosition:
    """The position of a projection in one partition."""

    partition: int
    topic_id: str
    next_offset: int
    head: Head


class TableSnapshot:
    """A projection in one snapshot, made by `open_snapshot`."""

    def __init__(
        self,
        connection: Connection,
        statements: Mapping[str, SQL],
        version: str,
        positions: Mapping[int, ProjectionPosition],
        search_positions: Mapping[int, ProjectionPosition],
        now_us: int,
    ) -> None:
        self.version = version
        """`v1`, `v2`, …"""
        self.positions = positions
        self.search_positions = search_positions
        self.since_us = now_us - (KEEP_OUTCOMES_S - CLOCKS_DIFFER_S) * 1_000_000
        """Time from which on outcomes must exist, in microseconds since 1970 UTC."""
        self._connection = connection
        self._statements = statements
        self._cursor_names: Iterator[int] = count(1)

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """Return all rows of a table in pages, in no order; of `outcomes` those not older than `since_us`."""
        return self._pages(table, f"all_{table.name}", None)

    def group(self, table: Table, group: Value) -> AsyncIterator[list[Row]]:
        """Return the rows of one chat (or partition) in pages, in key order."""
        return self._pages(table, f"group_{table.name}", group)

    async def without_detail(self, partition: int) -> AsyncIterator[list[int]]:
        """Yield the indexes of rejections in a partition that an older release projected without details, in pages."""
        async for page in self._fetched("without_detail", {"partition": partition}):
            yield [index for (index,) in page]

    async def _pages(self, table: Table, block: str, group: Value) -> AsyncIterator[list[Row]]:
        async for page in self._fetched(block, {"group": group}):
            yield [canonical_row(table, raw) for raw in page]

    async def _fetched(self, block: str, values: Mapping[str, object]) -> AsyncIterator[list[tuple[Any, ...]]]:
        async with self._connection.cursor(f"verify_{next(self._cursor_names)}") as cursor:
            since = EPOCH + timedelta(microseconds=self.since_us)
            await cursor.execute(self._statements[block], {**values, "since": since})
            while page := await cursor.fetchmany(PAGE_ROWS):
                yield page


@asynccontextmanager
async def open_snapshot(settings: PostgresSettings, version: str | None) -> AsyncIterator[TableSnapshot]:
    """Open a snapshot of the projection `version` ("v1"), or of the one that the public views show.

    While it is open Postgres keeps the row versions that it sees: do not hold it longer than the comparison takes.
    Raises UsageError if the projection does not exist, psycopg.OperationalError if Postgres is unavailable.
    """
    connection = await connect(settings, application_name="gapless-verify", autocommit=True, read_only=True)
    try:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        async with connection.work(), connection.transaction():
            for block in ("no_statement_timeout", "no_idle_timeout"):
                await connection.execute(_SQL.compose(block))
            schema = await _schema(connection, version)
            statements = _SQL.bind(schema=schema)
            now_us = await _one(connection, "now_us")
            assert isinstance(now_us, int)
            yield TableSnapshot(
                connection,
                statements,
                schema.removeprefix("chat_"),
                await _positions(connection, statements, "positions"),
                await _positions(connection, statements, "search_positions"),
                now_us,
            )
    finally:
        await connection.close()


async def projections(connection: Connection) -> list[str]:
    """Return the versions that exist, as "v1", lowest first."""
    found = await (await connection.execute(_SQL.compose("schemas"))).fetchall()
    return sorted((name.removeprefix("chat_") for (name,) in found), key=lambda version: int(version[1:]))


async def _schema(connection: Connection, version: str | None) -> str:
    if version is None:
        served = await _one(connection, "served_schema")
        if served is None:
            raise UsageError("No projection is served yet: start a projector first, or name one with --version.")
        return str(served)
    there = await projections(connection)
    if version not in there:
        raise UsageError(f"There is no projection {version}; there are: {', '.join(there) or 'none'}.")
    return f"chat_{version}"


async def _positions(
    connection: Connection, statements: Mapping[str, SQL], block: str
) -> dict[int, ProjectionPosition]:
    found = await (await connection.execute(statements[block])).fetchall()
    return {
        partition: ProjectionPosition(
            partition=partition,
            topic_id=str(topic_id),
            next_offset=next_offset,
            head=Head(term, index, command_offset, last_timestamp_ms),
        )
        for partition, topic_id, next_offset, term, index, command_offset, last_timestamp_ms in found
    }


async def _one(connection: Connection, block: str) -> object:
    row = await (await connection.execute(_SQL.compose(block))).fetchone()
    return row[0] if row is not None else None
