"""Writes one batch of one partition in one transaction, guarded by the position it started from.

What the batch needs to know of earlier rows (`look_up`) is read before the transaction and needs no lock. Only a
process that moves this partition's position changes those rows; then the guard finds another position and nothing is
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from schemas.ids import ChatId, MessageId
from schemas.log import Head
from services.projector.mapping.lookups import Counted, LookedUp, Lookups, ReactionKind, Root, Written
from services.projector.mapping.tables import RowChanges
from services.projector.mapping.validity import ReaderPosition
from services.projector.writing.columns import fragments
from services.projector.writing.copy import copy_rows, insert_rows
from services.projector.writing.guard import Move, StatementResult, move_position
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql, load_sql
from services.runtime.process.crashpoints import crash_point, declare_crash_point

BEFORE_COMMIT: Final = declare_crash_point(
    "projector.before_commit", "Postgres rolls the batch back with its position; the next projector writes it anew."
)
AFTER_COMMIT: Final = declare_crash_point(
    "projector.after_commit", "Batch and position are in Postgres together; the next projector goes on after it."
)

COPY_FROM_ROWS: Final = 10
"""Number of new rows from which they are written by COPY. A COPY costs two round trips for each table and little for
each row; an INSERT is the opposite. Measured: one message 3.9 ms by INSERT and 6.1 ms by COPY, twenty 8.5 and 6.9."""

_APPLY: Final = load_sql("services.projector.writing.sql", "positions.sql", "apply.sql", fragments=fragments())


def schema_name(version: int) -> str:
    """Return the Postgres schema of a projection."""
    assert version > 0
    return f"chat_v{version}"


@lru_cache(maxsize=16)
def apply_sql(version: int) -> BoundSql:
    """Return the statements of sql/apply.sql and sql/positions.sql on the tables of one version."""
    return _APPLY.bind(schema=schema_name(version), positions="projection_positions")


async def load_position(
    connection: Connection, sql: BoundSql, *, partition: int, topic_id: str
) -> tuple[str, ReaderPosition]:
    """Return the id of the topic that the tables were folded from, and their position. Starts a new partition at 0."""
    await connection.execute(sql["start_position"], {"partition": partition, "topic_id": topic_id})
    cursor = await connection.execute(sql["position"], {"partition": partition})
    row = await cursor.fetchone()
    assert row is not None  # inserted above, and never deleted
    stored_topic_id, next_offset, *head = row
    return stored_topic_id, ReaderPosition(next_offset=next_offset, head=Head(*head))


async def load_last_record(connection: Connection, sql: BoundSql, *, partition: int, next_offset: int) -> bytes | None:
    """Return the digest of the record before the position `next_offset`, or None if it is not known or the tables are
    no longer at that position."""
    values = {"partition": partition, "next_offset": next_offset}
    row = await (await connection.execute(sql["last_record"], values)).fetchone()
    return row[0] if row is not None else None


async def look_up(connection: Connection, sql: BoundSql, lookups: Lookups) -> LookedUp:
    """Read what `lookups` asks for, in one round trip for each kind that is asked for."""
    roots: dict[MessageId, Root] = {}
    last_seqs: dict[ChatId, int] = {}
    written: dict[tuple[ChatId, int], Written] = {}
    if lookups.replied:
        cursor = await connection.execute(sql["roots"], {"message_ids": list(lookups.replied)})
        for message_id, chat_id, seq, root_seq in await cursor.fetchall():
            roots[MessageId(str(message_id))] = Root(ChatId(str(chat_id)), root_seq if root_seq is not None else seq)
    if lookups.joined:
        cursor = await connection.execute(sql["last_seqs"], {"chat_ids": list(lookups.joined)})
        last_seqs = {ChatId(str(chat_id)): last_seq for chat_id, last_seq in await cursor.fetchall()}
    if lookups.edited:
        chat_ids, seqs = zip(*lookups.edited, strict=True)
        cursor = await connection.execute(sql["written"], {"chat_ids": list(chat_ids), "seqs": list(seqs)})
        written = {(ChatId(str(chat_id)), seq): Written(*rest) for chat_id, seq, *rest in await cursor.fetchall()}
    counts: dict[ReactionKind, Counted] = {}
    if lookups.reaction_kinds:
        columns = _columns(("chat_id", "seq", "emoji"), sorted(lookups.reaction_kinds))
        cursor = await connection.execute(sql["reaction_counts"], columns)
        for chat_id, seq, emoji, users, first_position in await cursor.fetchall():
            counts[ChatId(str(chat_id)), seq, emoji] = Counted(users, first_position)
    return LookedUp(roots=roots, last_seqs=last_seqs, written=written, reaction_counts=counts)


async def write_batch(
    connection: Connection, sql: BoundSql, move: Move, changes: RowChanges, *, copy_from: int = COPY_FROM_ROWS
) -> None:
    """Make a move together with all changes on its way, or do nothing.

    If there are `copy_from` or more new rows, they are written by COPY, otherwise in the round trip of the other
    statements. Raises as `move_position` does.
    """
    by_copy = len(changes.messages) + len(changes.outcomes) >= copy_from

    async def send() -> Sequence[StatementResult]:
        results = await change_rows(connection, sql, changes.statements())
        if not by_copy:
            await insert_rows(connection, sql, changes, partition=move.partition)
            results += await change_rows(connection, sql, changes.statements_after())
        return results

    async with connection.transaction():
        await move_position(connection, sql, move, send)
        if by_copy:
            await copy_rows(connection, sql, changes, partition=move.partition)
            for result in await change_rows(connection, sql, changes.statements_after()):
                result.check()
        crash_point(BEFORE_COMMIT)
    crash_point(AFTER_COMMIT)


async def change_rows(
    connection: Connection, sql: BoundSql, statements: Iterable[tuple[str, Sequence[NamedTuple]]]
) -> list[StatementResult]:
    """Send the statements with their rows. In a pipeline, the results are there at its end."""
    results = []
    for block, rows in statements:
        columns = _columns(rows[0]._fields, sorted(rows, key=_in_table))
        before, after = _COMPANIONS.get(block, ((), ()))
        for each in before:
            await connection.execute(sql[each], columns)
        results.append(StatementResult(block, len(rows), await connection.execute(sql[block], columns)))
        for each in after:
            await connection.execute(sql[each], columns)
    return results


_COMPANIONS: Final = {
    "messages_deleted": (
        ("own_deleted", "reactions_of_deleted", "counts_of_deleted", "texts_of_deleted"),
        ("threads_of_deleted",),
    ),
}
"""Statements that run before and after one on the same rows, and change any number of others."""
_PLAIN_TEXT: Final = frozenset({"chat_id", "user_id", "created_by", "role", "kind", "places"})
"""Columns whose values need no quotes in an array."""


_in_table: Final = itemgetter(0, 1)
"""Sort key: the order of the primary keys, so that neighbours are in one page of their index."""


def _columns(fields: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Mapping[str, Any]:
    """Turn rows into one array per column, in PostgreSQL's notation: psycopg inspects the type of each element and
    takes several times as long."""
    return {name: _array(name, column) for name, column in zip(fields, zip(*rows, strict=True), strict=True)}


def _array(name: str, column: Sequence[Any]) -> str | list[Any]:
    some = next((value for value in column if value is not None), None)
    if some is None:
        return "{" + ",".join(["NULL"] * len(column)) + "}"
    if isinstance(some, int):
        return "{" + ",".join(["NULL" if value is None else str(value) for value in column]) + "}"
    if isinstance(some, datetime):
        return "{" + ",".join(["NULL" if value is None else _quoted_time(value) for value in column]) + "}"
    if name in _PLAIN_TEXT:
        if None in column:
            column = ["NULL" if value is None else value for value in column]
        return "{" + ",".join(column) + "}"
    if name == "lexemes":
        return [_array_text(value) for value in column]
    return list(column)


def _array_text(lexemes: Sequence[str]) -> str:
    """Return lexemes as the text of an array. None holds a quote or a backslash: they are letters, marks, numbers."""
    return '{"' + '","'.join(lexemes) + '"}' if lexemes else "{}"


@lru_cache(maxsize=4_096)
def _quoted_time(at: datetime) -> str:
    return f'"{at.isoformat()}"'
