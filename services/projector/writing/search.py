"""Writes one batch of one partition into message_search, guarded as the batches of the other tables are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import psycopg

from services.projector.mapping.search import SEARCH_ROW_TYPES, SearchChanges, search_row
from services.projector.mapping.validity import ReaderPosition
from services.projector.writing.apply import COPY_FROM_ROWS, change_rows, lost_race, position_values, schema_name
from services.projector.writing.columns import fragments
from services.projector.writing.copy import copy_search
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
    connection: Connection,
    sql: BoundSql,
    *,
    partition: int,
    topic_id: str,
    start: ReaderPosition,
    end: ReaderPosition,
    changes: SearchChanges,
    last_record: bytes | None = None,
    durable: bool = True,
    copy_from: int = COPY_FROM_ROWS,
) -> None:
    """Move the partition's search from `start` to `end` together with all changes between them, or do nothing.

    The parameters and what is raised are those of `apply.write_batch`.
    """
    added = changes.search_added
    by_copy = len(added) >= copy_from
    statements: list[tuple[str, Sequence[NamedTuple]]] = [
        ("search_forgotten", changes.search_forgotten),
        ("search_reworded", changes.search_reworded),
        ("insert_search", [] if by_copy else [search_row(message) for message in added]),
    ]
    guard = connection.cursor()
    async with connection.transaction():
        try:
            async with connection.pipeline():
                if not durable:
                    await connection.execute(sql["commit_without_waiting"])
                await connection.execute(sql["by_key"])
                await guard.execute(sql["advance"], position_values(partition, topic_id, start, end, last_record))
                answers = await change_rows(connection, sql, [(name, rows) for name, rows in statements if rows])
        except psycopg.IntegrityError as error:
            if guard.rowcount == 0:  # the rows of this batch exist already: another projector wrote them
                raise lost_race(partition, start) from error
            raise
        if guard.rowcount != 1:
            raise lost_race(partition, start)
        for answer in answers:
            answer.check()
        if by_copy:
            await copy_search(connection, sql, added)
        if changes.rows:
            await connection.execute(sql["enter_pending"])
        crash_point(BEFORE_SEARCH_COMMIT)
