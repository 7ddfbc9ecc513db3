"""Writes one batch of one partition into message_search, guarded as the batches of the other tables are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from services.projector.mapping.search import SEARCH_ROW_TYPES, SearchChanges, search_row
from services.projector.writing.apply import COPY_FROM_ROWS, change_rows, schema_name
from services.projector.writing.columns import fragments
from services.projector.writing.copy import copy_search
from services.projector.writing.guard import Move, StatementResult, move_position
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql, load_sql
from services.runtime.process.crashpoints import crash_point, declare_crash_point

BEFORE_SEARCH_COMMIT: Final = declare_crash_point(
    "projector.before_search_commit", "Postgres rolls the batch back with its position; history is not affected."
)

_SEARCH: Final = load_sql(
    "services.projector.writing.sql", "positions.sql", "search.sql", fragments=fragments(SEARCH_ROW_TYPES)
)


@lru_cache(maxsize=16)
def search_sql(version: int) -> BoundSql:
    """Return the statements of sql/search.sql and sql/positions.sql on the tables of one version."""
    return _SEARCH.bind(schema=schema_name(version), positions="search_positions")


async def write_search(
    connection: Connection, sql: BoundSql, move: Move, changes: SearchChanges, *, copy_from: int = COPY_FROM_ROWS
) -> None:
    """As `apply.write_batch`, for search."""
    added = changes.search_added
    by_copy = len(added) >= copy_from
    statements: list[tuple[str, Sequence[NamedTuple]]] = [
        ("search_forgotten", changes.search_forgotten),
        ("search_reworded", changes.search_reworded),
        ("insert_search", [] if by_copy else [search_row(message) for message in added]),
    ]

    async def send() -> Sequence[StatementResult]:
        return await change_rows(connection, sql, [(name, rows) for name, rows in statements if rows])

    async with connection.transaction():
        await move_position(connection, sql, move, send)
        if by_copy:
            await copy_search(connection, sql, added)
        if changes.rows:
            await connection.execute(sql["enter_pending"])
        crash_point(BEFORE_SEARCH_COMMIT)
