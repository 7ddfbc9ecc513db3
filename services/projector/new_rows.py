"""How messages and outcomes get into their tables: many by binary COPY, few by INSERT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from schemas.bodies import canonical_json
from schemas.ids import uuid_bytes
from services.projector.tables import Changes, MessageRow, OutcomeRow
from services.runtime.postgres import Connection
from services.runtime.sql import BoundSql

_MESSAGE_TYPES: Final = (
    "uuid", "int8", "uuid", "uuid", "text", "text", "uuid", "int8", "int8", "text[]", "jsonb", "timestamptz",
    "timestamptz", "int8", "int8",
)  # fmt: skip
_OUTCOME_TYPES: Final = ("int4", "int8", "uuid", "uuid", "text", "text", "text", "int8", "int8", "timestamptz")


async def insert_rows(connection: Connection, sql: BoundSql, changes: Changes) -> None:
    """One statement a row: in a pipeline they cost no round trip. Raises psycopg.Error."""
    async with connection.cursor() as cursor:
        if changes.messages:
            await cursor.executemany(sql["insert_message"], map(_message_values, changes.messages))
        if changes.outcomes:
            await cursor.executemany(sql["insert_outcome"], map(_outcome_values, changes.outcomes))


async def copy_rows(connection: Connection, sql: BoundSql, changes: Changes) -> None:
    """COPY of each table. Not in a pipeline: libpq has none for COPY. Raises psycopg.Error."""
    if changes.messages:
        await _copy(connection, sql, "copy_messages", _MESSAGE_TYPES, changes.messages, _message_values)
    if changes.outcomes:
        await _copy(connection, sql, "copy_outcomes", _OUTCOME_TYPES, changes.outcomes, _outcome_values)


async def _copy(
    connection: Connection,
    sql: BoundSql,
    block: str,
    types: Sequence[str],
    rows: Sequence[Any],
    values: Callable[[Any], Sequence[Any]],
) -> None:
    async with connection.cursor() as cursor, cursor.copy(sql[block]) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(values(row))


def _message_values(row: MessageRow) -> Sequence[Any]:
    reply_to, metadata = row.reply_to_message_id, row.metadata
    return (
        _uuid(row.chat_id), row.seq, _fresh_uuid(row.message_id), _uuid(row.sender_id), row.message_text,
        row.client_generated_id, _fresh_uuid(reply_to) if reply_to else None, row.root_seq, row.reply_count,
        row.media_urls, Jsonb(metadata, canonical_json) if metadata is not None else None, row.sent_at,
        row.original_sent_at, row.position, row.changed_position,
    )  # fmt: skip


def _outcome_values(row: OutcomeRow) -> Sequence[Any]:
    command_id, sender_id = _fresh_uuid(row.command_id), _uuid(row.sender_id) if row.sender_id else None
    return (*row[:2], command_id, sender_id, *row[4:])


@lru_cache(maxsize=65_536)
def _uuid(text: str) -> UUID:
    """Of a chat or a user: they repeat."""
    return UUID(bytes=uuid_bytes(text))


def _fresh_uuid(text: str) -> UUID:
    """Of a command: none comes often enough to be remembered."""
    return UUID(bytes=bytes.fromhex(text.replace("-", "")))
