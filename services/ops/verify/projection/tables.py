"""Which columns of the read model are compared with the log, and the one form in which both sides write a value.

A row is a tuple of plain values, in the order of `Table.columns`: identifiers and texts as text, numbers as
integers, instants as microseconds since 1970 UTC, arrays and JSON as canonical JSON text. The columns in
sql/tables.sql and in sql/scratch.sql have the same order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

Value = str | int | None
Row = tuple[Value, ...]

_compact: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that the log determines.

    `columns[0]` is the group by which the two sides are first compared (the chat, or the partition); together with the
    next `key_columns - 1` columns it identifies a row.
    """

    name: str
    columns: tuple[str, ...]
    key_columns: int
    instants: frozenset[str] = frozenset()
    json: frozenset[str] = frozenset()
    arrays: frozenset[str] = frozenset()
    seq: str | None = None
    """The column whose lowest and highest value are in the summary of a group."""
    position: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return self.columns[: self.key_columns]

    def show(self, column: str, value: Value) -> Value:
        """Return a value for display: an instant as RFC 3339 in UTC, with microseconds if it has them."""
        if column in self.instants and isinstance(value, int):
            at = EPOCH + timedelta(microseconds=value)
            return at.isoformat(timespec="milliseconds" if value % 1000 == 0 else "microseconds").replace("+00:00", "Z")
        return value


CHATS: Final = Table(
    name="chats",
    columns=(
        "chat_id", "kind", "name", "created_by", "created_at", "last_seq", "last_position", "last_message_at",
        "deleted_total",
    ),
    key_columns=1,
    instants=frozenset({"created_at", "last_message_at"}),
    seq="last_seq",
    position="last_position",
)  # fmt: skip

PARTICIPANTS: Final = Table(
    name="chat_participants",
    columns=(
        "chat_id", "user_id", "role", "joined_at", "joined_seq", "left_at", "read_seq", "last_read_at",
        "delivered_seq", "own_live_after_read", "changed_position",
    ),
    key_columns=2,
    instants=frozenset({"joined_at", "left_at", "last_read_at"}),
    position="changed_position",
)  # fmt: skip

MESSAGES: Final = Table(
    name="chat_messages",
    columns=(
        "chat_id", "seq", "message_id", "sender_id", "message_text", "client_generated_id", "reply_to_message_id",
        "root_seq", "reply_count", "media_urls", "metadata", "sent_at", "original_sent_at", "edited_at",
        "deleted_at", "position", "changed_position",
    ),
    key_columns=2,
    instants=frozenset({"sent_at", "original_sent_at", "edited_at", "deleted_at"}),
    json=frozenset({"metadata"}),
    arrays=frozenset({"media_urls"}),
    seq="seq",
    position="position",
)  # fmt: skip

DELETED_BLOCKS: Final = Table(
    name="deleted_blocks", columns=("chat_id", "span", "block", "deleted", "places"), key_columns=3
)
"""Where a chat's deleted messages are: how many in each block of `span` seqs and, for the shortest span, which."""

OUTCOMES: Final = Table(
    name="outcomes",
    columns=(
        "partition", "index", "command_id", "sender_id", "type", "outcome", "reason", "seq", "position", "at", "detail",
    ),
    key_columns=2,
    instants=frozenset({"at"}),
    seq="index",
)  # fmt: skip

TABLES: Final = (CHATS, PARTICIPANTS, MESSAGES, DELETED_BLOCKS, OUTCOMES)
CHAT_TABLES: Final = (CHATS, PARTICIPANTS, MESSAGES, DELETED_BLOCKS)


def canonical_row(table: Table, raw: Sequence[Any]) -> Row:
    """Convert a row, as Postgres returns it for sql/tables.sql, to the common form."""
    if not table.json and not table.arrays:
        return tuple(raw)
    row = list(raw)
    for column in table.json:
        place = table.columns.index(column)
        if row[place] is not None:
            row[place] = metadata_text(json.loads(row[place]))
    for column in table.arrays:
        place = table.columns.index(column)
        if row[place] is not None:
            row[place] = array_text(row[place])
    return tuple(row)


def array_text(values: Sequence[str]) -> str:
    return _compact(list(values))


def metadata_text(value: object) -> str:
    """Return JSON in one spelling: keys sorted, every number a double, as a JSON reader in any language sees it.

    jsonb keeps numbers as decimals and writes 1e2 as 100: the same number, so not a difference.
    """
    return _compact(_with_doubles(value))


def _with_doubles(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_doubles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_doubles(inner) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) + 0.0  # jsonb stores −0 as 0
    return value


def instant_us(at: datetime) -> int:
    """Return the exact number of microseconds since 1970 UTC."""
    return (at - EPOCH) // timedelta(microseconds=1)


def row_hash(row: Row) -> int:
    """Return a 128-bit hash of a row, unambiguous between values and between NULL and a text."""
    return int.from_bytes(blake2b(_compact(row).encode(), digest_size=16).digest(), "big")
