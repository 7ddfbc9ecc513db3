"""Writes messages, outcomes and rows of search into their tables: many by binary COPY, few by INSERT.

The bytes of a COPY are built here, a common row in two calls of `struct`: psycopg's own dumpers take three times as
long. Layout: the table "Binary Format" of PostgreSQL's page on COPY, and for each type what its `*_recv` reads.
"""

from __future__ import annotations

import asyncio
import struct
from binascii import unhexlify
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from schemas.canonical import canonical_json
from schemas.errors import LogCorrupt
from schemas.search import CHAT_MARK, HOUR_MS, MAX_TOKEN_CHARACTERS, MAX_TOKENS, time_lexemes
from schemas.wire.extensions import extension
from services.projector.mapping.decode import instant
from services.projector.mapping.messages import message_row
from services.projector.mapping.rows import SENT, outcome_row
from services.projector.mapping.search import AnyFound, SearchAdded, search_row
from services.projector.mapping.tables import AnyMessageRow, AnyOutcomeRow, MessageRow, OutcomeRow, RowChanges
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql

PIECE_ROWS: Final = 250
"""Rows in one write to a COPY: Postgres reads them while the next ones are built."""

_Row = TypeVar("_Row", AnyMessageRow, AnyOutcomeRow, AnyFound)


async def insert_rows(connection: Connection, sql: BoundSql, changes: RowChanges, *, partition: int) -> None:
    """Insert each row by its own statement: in a pipeline they cost no round trip. Raises LogCorrupt, psycopg.Error."""
    async with connection.cursor() as cursor:
        if changes.messages:
            messages = [_message_values(message_row(row)) for row in changes.messages]
            await cursor.executemany(sql["insert_message"], messages)
        if changes.outcomes:
            outcomes = [_outcome_values(outcome_row(row, partition)) for row in changes.outcomes]
            await cursor.executemany(sql["insert_outcome"], outcomes)


async def copy_rows(connection: Connection, sql: BoundSql, changes: RowChanges, *, partition: int) -> None:
    """Write each table by COPY, outside a pipeline, where libpq has no COPY. Raises LogCorrupt, psycopg.Error.

    Messages are sorted by chat: most of their indexes begin with the chat, and neighbours share a page. Measured in
    batches of 20,000 over 1,000 chats: 5.0 us of Postgres a row with all indexes, 7.9 us in log order.
    """
    if changes.messages:
        by_chat = sorted(changes.messages, key=attrgetter("chat_id"))  # stable: by seq within a chat
        await _copy(connection, sql, "copy_messages", by_chat, messages_bytes)
    if changes.outcomes:
        await _copy(connection, sql, "copy_outcomes", changes.outcomes, partial(outcomes_bytes, partition=partition))


async def copy_search(connection: Connection, sql: BoundSql, messages: list[AnyFound]) -> None:
    """Write rows of message_search by COPY, outside a pipeline. Raises LogCorrupt, psycopg.Error.

    In the order of the log: a search reads the newest messages, which are then in few pages.
    """
    await _copy(connection, sql, "copy_search", messages, searches_bytes)


async def _copy(
    connection: Connection, sql: BoundSql, block: str, rows: list[_Row], to_bytes: Callable[[list[_Row]], bytes]
) -> None:
    async with connection.cursor() as cursor, cursor.copy(sql[block]) as copy:
        for piece in _pieces(rows, to_bytes):
            await copy.write(piece)
            await asyncio.sleep(0)  # other partitions and searches share this thread


_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"


def _pieces(rows: list[_Row], to_bytes: Callable[[list[_Row]], bytes]) -> Iterator[bytes]:
    yield _SIGNATURE
    try:
        for start in range(0, len(rows), PIECE_ROWS):
            yield to_bytes(rows[start : start + PIECE_ROWS])
    except (struct.error, UnicodeEncodeError) as error:
        raise LogCorrupt(f"a record with a figure or a text that no table can hold: {error!r:.100}") from None
    yield _TRAILER


class PlainEncoder:
    """Builds the rows of the two tables in Python."""

    def messages(self, rows: list[AnyMessageRow]) -> bytes:
        """Return the rows of `copy_messages`. Raises as `message_bytes` does."""
        return b"".join([message_bytes(message_row(row)) for row in rows])

    def outcomes(self, rows: list[AnyOutcomeRow], *, partition: int) -> bytes:
        """Return the rows of `copy_outcomes`. Raises as `message_bytes` does."""
        return b"".join([outcome_bytes(outcome_row(row, partition)) for row in rows])

    def search(self, rows: list[AnyFound]) -> bytes:
        """Return the rows of `copy_search`. Raises as `message_bytes` does."""
        return b"".join([_found_bytes(row) for row in rows])


class CompiledEncoder:
    """Builds the rows of plain messages straight from their records, and all others in Python."""

    def __init__(self, compiled: Any) -> None:
        """`compiled` is the compiled module."""
        self._compiled = compiled

    def messages(self, rows: list[AnyMessageRow]) -> bytes:
        made: bytes = self._compiled.message_rows(rows, message_bytes, _MESSAGE_COUNT, _PLAIN_TAIL, *_PLAIN_NUMBERS)
        return made

    def outcomes(self, rows: list[AnyOutcomeRow], *, partition: int) -> bytes:
        head = struct.pack("!6si", _OUTCOME_FIELDS, partition)
        made: bytes = self._compiled.outcome_rows(rows, outcome_bytes, head, _outcome_texts(*SENT), _text(None) + _NULL)
        return made

    def search(self, rows: list[AnyFound]) -> bytes:
        made: bytes = self._compiled.search_rows(
            rows, _found_bytes, _SEARCH_COUNT, CHAT_MARK.encode(), _NO_POSITIONS, _LEXEMES_BEFORE_TOKENS,
            _time_lexemes, HOUR_MS, MAX_TOKENS, MAX_TOKEN_CHARACTERS,
        )  # fmt: skip
        return made


_compiled: Final = extension("services.projector.writing._copy")
_in_use: Final = CompiledEncoder(_compiled) if _compiled is not None else PlainEncoder()
messages_bytes: Final = _in_use.messages
outcomes_bytes: Final = _in_use.outcomes
searches_bytes: Final = _in_use.search


_NULL: Final = b"\xff\xff\xff\xff"
_4: Final = b"\0\0\0\4"
_8: Final = b"\0\0\0\x08"
_16: Final = b"\0\0\0\x10"
_TEXT_OID: Final = 25
_NO_TEXTS: Final = struct.pack("!iiii", 12, 0, 0, _TEXT_OID)
_JSONB_VERSION: Final = b"\1"
_length: Final = struct.Struct("!i").pack
_bigint: Final = struct.Struct("!iq").pack

# Each field follows its length. The bytes that all rows share are one constant.
_message_head: Final = struct.Struct("!6s16s4sq4s16s4s16si").pack
_MESSAGE_COUNT: Final = struct.pack("!h", len(MessageRow._fields))
_MESSAGE_FIELDS: Final = _MESSAGE_COUNT + _16
_message_tail: Final = struct.Struct("!12sq24sq12sq4sq4s").pack
_NO_REPLY: Final = _NULL + _NULL + _8
_NO_MEDIA_NO_METADATA: Final = _NO_TEXTS + _NULL + _8
_NO_ORIGINAL_NOT_DELETED: Final = _NULL + _NULL + _8
assert (len(_NO_REPLY), len(_NO_MEDIA_NO_METADATA), len(_NO_ORIGINAL_NOT_DELETED)) == (12, 24, 12)
_MARKS: Final = (0x5E47_A750_5E47_A751, 0x5E47_A750_5E47_A752, 0x5E47_A750_5E47_A753)
_PLAIN_TAIL: Final = _message_tail(
    _NO_REPLY, 0, _NO_MEDIA_NO_METADATA, _MARKS[0], _NO_ORIGINAL_NOT_DELETED, _MARKS[1], _8, _MARKS[2], _NULL
)
_PLAIN_NUMBERS: Final = tuple(_PLAIN_TAIL.index(struct.pack("!q", mark)) for mark in _MARKS)
"""The row of a plain message after its key, and the places in it of sent_at, position and changed_position."""


def message_bytes(row: MessageRow) -> bytes:
    """Return one row of `copy_messages`. Raises LogCorrupt if an id is no UUID; struct.error, UnicodeEncodeError."""
    (
        chat_id, seq, message_id, sender_id, message_text, client_generated_id, reply_to, root_seq, reply_count,
        media_urls, metadata, sent_at, original_sent_at, deleted_at, position, changed_position, last_reply_seq,
    ) = row  # fmt: skip
    text = message_text.encode() if message_text is not None else b""
    text_length = len(text) if message_text is not None else -1  # NULL
    key = client_generated_id.encode()
    head = _message_head(
        _MESSAGE_FIELDS, _uuid(chat_id), _8, seq, _16, _fresh_uuid(message_id), _16, _uuid(sender_id), text_length
    )
    nothing_more = reply_to is None and metadata is None and original_sent_at is None and deleted_at is None
    if nothing_more and root_seq is None and last_reply_seq is None and not media_urls:
        tail = _message_tail(
            _NO_REPLY, reply_count, _NO_MEDIA_NO_METADATA, _micros(sent_at), _NO_ORIGINAL_NOT_DELETED,
            position, _8, changed_position, _NULL,
        )  # fmt: skip
    else:
        tail = b"".join(
            (
                _16 + _fresh_uuid(reply_to) if reply_to is not None else _NULL,
                _bigint(8, root_seq) if root_seq is not None else _NULL,
                _bigint(8, reply_count),
                _texts(media_urls),
                _jsonb(metadata) if metadata is not None else _NULL,
                _bigint(8, _micros(sent_at)),
                _bigint(8, _micros(original_sent_at)) if original_sent_at is not None else _NULL,
                _bigint(8, _micros(deleted_at)) if deleted_at is not None else _NULL,
                _bigint(8, position),
                _bigint(8, changed_position),
                _bigint(8, last_reply_seq) if last_reply_seq is not None else _NULL,
            )
        )
    return b"".join((head, text, _length(len(key)), key, tail))


def _texts(texts: Sequence[str]) -> bytes:
    if not texts:
        return _NO_TEXTS
    items = [text.encode() for text in texts]
    body = struct.pack("!iiiii", 1, 0, _TEXT_OID, len(items), 1)
    body += b"".join([_length(len(item)) + item for item in items])
    return _length(len(body)) + body


def _jsonb(value: dict[str, Any]) -> bytes:
    body = _JSONB_VERSION + canonical_json(value)
    return _length(len(body)) + body


_outcome_head: Final = struct.Struct("!6si4sq4s16s").pack
_OUTCOME_FIELDS: Final = struct.pack("!h", len(OutcomeRow._fields)) + _4


def outcome_bytes(row: OutcomeRow) -> bytes:
    """Return one row of `copy_outcomes`. Raises as `message_bytes` does."""
    partition, index, command_id, sender_id, command_type, outcome, reason, seq, position, at, detail, revision = row
    return b"".join(
        (
            _outcome_head(_OUTCOME_FIELDS, partition, _8, index, _16, _fresh_uuid(command_id)),
            _16 + _uuid(sender_id) if sender_id is not None else _NULL,
            _outcome_texts(command_type, outcome, reason),
            _bigint(8, seq) if seq is not None else _NULL,
            _bigint(8, position) if position is not None else _NULL,
            _bigint(8, _micros(at)),
            _text(detail),  # not in `_outcome_texts`: some contain a number and would evict the others from its cache
            _bigint(8, revision) if revision is not None else _NULL,
        )
    )


_search_head: Final = struct.Struct("!6s16s4sq4s16s4sq").pack
_SEARCH_COUNT: Final = struct.pack("!h", len(SearchAdded._fields))
_SEARCH_FIELDS: Final = _SEARCH_COUNT + _16
_NO_POSITIONS: Final = b"\0\0\0"
"""After a lexeme: the end of its text, and the number of its positions."""


def search_bytes(row: SearchAdded) -> bytes:
    """Return one row of `copy_search`; its tsvector is the one that array_to_tsvector makes. Raises as
    `message_bytes`."""
    chat_id, seq, sender_id, sent_at, lexemes = row
    vector = _length(len(lexemes)) + _lexemes(lexemes)
    head = _search_head(_SEARCH_FIELDS, _uuid(chat_id), _8, seq, _16, _uuid(sender_id), _8, _micros(sent_at))
    return b"".join((head, _length(len(vector)), vector))


def _found_bytes(message: AnyFound) -> bytes:
    return search_bytes(search_row(message))


_LEXEMES_BEFORE_TOKENS: Final = 1 + len(time_lexemes(0))


def _time_lexemes(at_ms: int) -> bytes:
    """Return the lexemes of a time, which are those of its hour. Raises LogCorrupt if it is no valid time."""
    instant(at_ms)
    return _lexemes(time_lexemes(at_ms))


def _lexemes(lexemes: Sequence[str]) -> bytes:
    return b"".join([lexeme.encode() + _NO_POSITIONS for lexeme in lexemes])


@lru_cache(maxsize=1_024)
def _outcome_texts(command_type: str | None, outcome: str, reason: str | None) -> bytes:
    """Return the three texts of an outcome. Cached: there are few combinations (though a rejected type can be any)."""
    return b"".join([_text(text) for text in (command_type, outcome, reason)])


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    raw = text.encode()
    return _length(len(raw)) + raw


_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@lru_cache(maxsize=4_096)
def _micros(at: datetime) -> int:
    """Return a timestamptz, microseconds since 2000. Cached, because the records of a batch share theirs."""
    return (at - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=65_536)
def _uuid(text: str) -> bytes:
    """Return the bytes of a chat's or a user's id. Cached, because they repeat. Raises LogCorrupt."""
    return _fresh_uuid(text)


def _fresh_uuid(text: str) -> bytes:
    """Return the bytes of a command's id. Not cached, because few of them repeat. Raises LogCorrupt."""
    try:
        raw = unhexlify(text.replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise LogCorrupt(f"an id that is no UUID: {text!r:.80}")
    return raw


def _message_values(row: MessageRow) -> Sequence[Any]:
    reply_to, metadata = row.reply_to_message_id, row.metadata
    return (
        _uuid_of(row.chat_id), row.seq, _uuid_of(row.message_id), _uuid_of(row.sender_id), row.message_text,
        row.client_generated_id, _uuid_of(reply_to) if reply_to else None, row.root_seq, row.reply_count,
        row.media_urls, Jsonb(metadata, canonical_json) if metadata is not None else None, row.sent_at,
        row.original_sent_at, row.deleted_at, row.position, row.changed_position, row.last_reply_seq,
    )  # fmt: skip


def _outcome_values(row: OutcomeRow) -> Sequence[Any]:
    command_id, sender_id = _uuid_of(row.command_id), _uuid_of(row.sender_id) if row.sender_id else None
    return (*row[:2], command_id, sender_id, *row[4:])


def _uuid_of(text: str) -> UUID:
    return UUID(bytes=_fresh_uuid(text))
