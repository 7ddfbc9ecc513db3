"""The columns of the read model that are compared with the log, and the one form in which both sides write a value.

A row is a tuple of plain values, in the order of `Table.columns`: identifiers and texts as text, numbers as
integers, instants as microseconds since 1970 UTC, arrays and JSON as canonical JSON text. This is the verifiers' one
list of columns: what sql/tables.sql reads from Postgres, and the tables of sql/rows.sql in SQLite, are derived from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import Any, Final

Value = str | int | None
Row = tuple[Value, ...]

_compact: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How the values of a column are stored in SQLite, and read from Postgres."""

    sqlite: str
    postgres: str = "{0}"
    canonical: Callable[[Any], str] | None = None
    """Converts what Postgres returns, unless it is NULL."""


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


NUMBER: Final = Form("INTEGER")
TEXT: Final = Form("TEXT")
AS_TEXT: Final = Form("TEXT", "{0}::text")
"""An identifier, or bits."""
INSTANT: Final = Form("INTEGER", "(extract(epoch FROM {0}) * 1000000)::bigint")
JSON: Final = Form("TEXT", "{0}::text", lambda text: metadata_text(json.loads(text)))
TEXTS: Final = Form("TEXT", "{0}", array_text)
LEXEMES: Final = Form("TEXT", "tsvector_to_array({0})", lambda lexemes: array_text(sorted(lexemes)))
DETAIL: Final = Form("TEXT", "CASE WHEN outcome = 'rejected' THEN {0} ELSE nullif({0}, '') END")
"""The sentence of a rejection. A release that stored none left the column's default, the empty text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table that the log determines.

    The first column is the group by which the two sides are first compared (the chat, or the partition); together with
    the next `key_columns - 1` columns it identifies a row.
    """

    name: str
    forms: Mapping[str, Form]
    """Each column, in order, and its form."""
    key_columns: int
    seq: str | None = None
    """The column whose lowest and highest value are in the summary of a group."""
    position: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.forms)

    @property
    def key(self) -> tuple[str, ...]:
        return self.columns[: self.key_columns]

    def show(self, column: str, value: Value) -> Value:
        """Return a value for display: an instant as RFC 3339 in UTC, with microseconds if it has them."""
        if self.forms[column] is INSTANT and isinstance(value, int):
            at = EPOCH + timedelta(microseconds=value)
            return at.isoformat(timespec="milliseconds" if value % 1000 == 0 else "microseconds").replace("+00:00", "Z")
        return value


CHATS: Final = Table(
    name="chats",
    forms={
        "chat_id": AS_TEXT,
        "kind": TEXT,
        "name": TEXT,
        "created_by": AS_TEXT,
        "created_at": INSTANT,
        "last_seq": NUMBER,
        "last_position": NUMBER,
        "last_message_at": INSTANT,
        "deleted_total": NUMBER,
        "changed_index": NUMBER,
    },
    key_columns=1,
    seq="last_seq",
    position="last_position",
)

PARTICIPANTS: Final = Table(
    name="chat_participants",
    forms={
        "chat_id": AS_TEXT,
        "user_id": AS_TEXT,
        "role": TEXT,
        "joined_at": INSTANT,
        "joined_seq": NUMBER,
        "left_at": INSTANT,
        "read_seq": NUMBER,
        "last_read_at": INSTANT,
        "delivered_seq": NUMBER,
        "own_live_after_read": NUMBER,
        "changed_position": NUMBER,
        "changed_index": NUMBER,
    },
    key_columns=2,
    position="changed_position",
)

MESSAGES: Final = Table(
    name="chat_messages",
    forms={
        "chat_id": AS_TEXT,
        "seq": NUMBER,
        "message_id": AS_TEXT,
        "sender_id": AS_TEXT,
        "message_text": TEXT,
        "client_generated_id": TEXT,
        "reply_to_message_id": AS_TEXT,
        "root_seq": NUMBER,
        "reply_count": NUMBER,
        "media_urls": TEXTS,
        "metadata": JSON,
        "sent_at": INSTANT,
        "original_sent_at": INSTANT,
        "edited_at": INSTANT,
        "deleted_at": INSTANT,
        "position": NUMBER,
        "changed_position": NUMBER,
        "revision": NUMBER,
        "last_reply_seq": NUMBER,
    },
    key_columns=2,
    seq="seq",
    position="position",
)

EARLIER_TEXTS: Final = Table(
    name="earlier_texts",
    forms={"chat_id": AS_TEXT, "seq": NUMBER, "revision": NUMBER, "message_text": TEXT, "written_at": INSTANT},
    key_columns=3,
)
"""The texts of edited messages that an edit replaced, by the revision that had them."""

DELETED_BLOCKS: Final = Table(
    name="deleted_blocks",
    forms={"chat_id": AS_TEXT, "span": NUMBER, "block": NUMBER, "deleted": NUMBER, "places": AS_TEXT},
    key_columns=3,
)
"""Where a chat's deleted messages are: how many in each block of `span` seqs and, for the shortest span, which."""

REACTIONS: Final = Table(
    name="reactions",
    forms={"chat_id": AS_TEXT, "seq": NUMBER, "emoji": TEXT, "user_id": AS_TEXT, "changed_position": NUMBER},
    key_columns=4,
    position="changed_position",
)

REACTION_COUNTS: Final = Table(
    name="reaction_counts",
    forms={"chat_id": AS_TEXT, "seq": NUMBER, "emoji": TEXT, "users": NUMBER, "first_position": NUMBER},
    key_columns=3,
)
"""For each emoji of a message, how many users react with it, and the position of the first of these reactions."""

SEARCH: Final = Table(
    name="message_search",
    forms={"chat_id": AS_TEXT, "seq": NUMBER, "sender_id": AS_TEXT, "sent_at": INSTANT, "tokens": LEXEMES},
    key_columns=2,
    seq="seq",
)
"""As of the position of search, not that of the other tables."""

OUTCOMES: Final = Table(
    name="outcomes",
    forms={
        "partition": NUMBER,
        "index": NUMBER,
        "command_id": AS_TEXT,
        "sender_id": AS_TEXT,
        "type": TEXT,
        "outcome": TEXT,
        "reason": TEXT,
        "seq": NUMBER,
        "position": NUMBER,
        "at": INSTANT,
        "detail": DETAIL,
        "revision": NUMBER,
    },
    key_columns=2,
    seq="index",
)

CHAT_TABLES: Final = (CHATS, PARTICIPANTS, MESSAGES, EARLIER_TEXTS, DELETED_BLOCKS, REACTIONS, REACTION_COUNTS, SEARCH)
TABLES: Final = (*CHAT_TABLES, OUTCOMES)


def columns_in_postgres() -> dict[str, str]:
    """Return the SQL fragments `<table>_columns` of sql/tables.sql: what a row is read as, in order."""
    return {
        f"{table.name}_columns": ", ".join(form.postgres.format(f'"{column}"') for column, form in table.forms.items())
        for table in TABLES
    }


def columns_in_sqlite() -> dict[str, str]:
    """Return the SQL fragments `<table>_columns` of sql/rows.sql: the columns of a table and their types, in order."""
    return {
        f"{table.name}_columns": ", ".join(f'"{column}" {form.sqlite}' for column, form in table.forms.items())
        for table in TABLES
    }


def canonical_row(table: Table, raw: Sequence[Any]) -> Row:
    """Convert a row, as Postgres returns it for sql/tables.sql, to the common form."""
    conversions = _conversions(table)
    if not conversions:
        return tuple(raw)
    row = list(raw)
    for place, canonical in conversions:
        if row[place] is not None:
            row[place] = canonical(row[place])
    return tuple(row)


@cache
def _conversions(table: Table) -> list[tuple[int, Callable[[Any], str]]]:
    return [(place, form.canonical) for place, form in enumerate(table.forms.values()) if form.canonical is not None]


def instant_us(at: datetime) -> int:
    """Return the exact number of microseconds since 1970 UTC."""
    return (at - EPOCH) // timedelta(microseconds=1)


def row_hash(row: Row) -> int:
    """Return a 128-bit hash of a row, unambiguous between values and between NULL and a text."""
    return int.from_bytes(blake2b(_compact(row).encode(), digest_size=16).digest(), "big")
