"""However a history is cut into batches, the tables are the same: on the real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.cursor import Decided, LogCursor
from schemas.search import lexemes
from services.ops.verify.projection.fold import LogFold
from services.ops.verify.projection.search import SearchFold
from services.ops.verify.projection.snapshot import open_snapshot
from services.ops.verify.projection.statements import ROWS_SCHEMA
from services.ops.verify.projection.tables import TABLES, Row, Table
from services.ops.verify.scratch import open_scratch
from services.projector.versions.migrations import create_projection, migrate
from services.runtime.postgres.pool import Connection, connect
from services.runtime.settings import PostgresSettings
from tests.support.chat_log import ChatLog, conversation
from tests.support.projection import (
    Action,
    History,
    actions,
    contradictions,
    dump,
    empty,
    postgres_of,
    write_records,
    write_search_records,
)
from tests.support.record_batches import as_read


class Tables:
    """Two projections next to each other in one database, for many examples."""

    def __init__(self, postgres: PostgresSettings) -> None:
        self.postgres = postgres
        self.runner = asyncio.Runner()
        self.connection = self.runner.run(self._prepare(postgres))

    async def _prepare(self, postgres: PostgresSettings) -> Connection:
        connection = await connect(postgres, application_name="test", autocommit=True)
        await migrate(connection)
        await create_projection(connection, 2)  # as a rebuild has it: without secondary indexes
        await connection.execute("SET synchronous_commit = off")
        return connection

    def close(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()


@pytest.fixture
def tables(database: str) -> Iterator[Tables]:
    tables = Tables(postgres_of(database))
    yield tables
    tables.close()


async def _compare(connection: Connection, log: ChatLog, cuts: set[int], copy_from: int) -> None:
    records = log.events
    for version in (1, 2):
        await empty(connection, version)
    for record in records:
        await write_records(connection, 1, [record])
        await write_search_records(connection, 1, [record])
    starts = sorted({0, *(cut % len(records) for cut in cuts)})
    for start, end in zip(starts, [*starts[1:], len(records)], strict=True):
        await write_records(connection, 2, as_read(records[start:end]), copy_from=copy_from)
        await write_search_records(connection, 2, as_read(records[start:end]), copy_from=copy_from)
    one_by_one = await dump(connection, "chat_v1")
    in_batches = await dump(connection, "chat_v2")
    for table, rows in one_by_one.items():
        assert in_batches[table] == rows, table
    assert await contradictions(connection, "chat_v1") == []
    assert await _wrong_unread(connection) == []
    assert await _wrong_search(connection) == []


async def _wrong_search(connection: Connection) -> list[object]:
    """Return the messages whose row in search is not that of their present text, or that should have none."""
    cursor = await connection.execute(
        "SELECT m.chat_id::text, m.seq, m.message_text, (extract(epoch FROM m.sent_at) * 1000)::bigint,"
        " tsvector_to_array(s.tokens), s.sender_id = m.sender_id AND s.sent_at = m.sent_at FROM chat.chat_messages m"
        " FULL JOIN chat.message_search s ON s.chat_id = m.chat_id AND s.seq = m.seq"
    )
    return [
        (chat_id, seq, text, found)
        for chat_id, seq, text, sent_ms, found, same in await cursor.fetchall()
        if (found is None) != (text is None)
        or (found is not None and not (same and sorted(found) == sorted(lexemes(chat_id, sent_ms, text))))
    ]


async def _wrong_unread(connection: Connection) -> list[object]:
    """Return the members whose unread count differs from counting their messages."""
    cursor = await connection.execute(
        "SELECT * FROM (SELECT p.chat_id, p.user_id, chat.get_unread_count(p.chat_id, p.user_id) AS unread, ("
        "   SELECT count(*) FROM chat.chat_messages m WHERE m.chat_id = p.chat_id AND m.seq > p.read_seq"
        "   AND m.sender_id <> p.user_id AND m.deleted_at IS NULL) AS counted"
        "   FROM chat.chat_participants p WHERE p.left_at IS NULL) u WHERE unread <> counted"
    )
    return list(await cursor.fetchall())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=actions, cuts=st.sets(st.integers(0, 200), max_size=8), copy_from=st.sampled_from([0, 10, 1_000]))
def test_any_cutting_of_a_history_into_batches_gives_the_same_tables(
    tables: Tables, steps: list[Action], cuts: set[int], copy_from: int
) -> None:
    log = ChatLog()
    History(log).run(steps)
    tables.runner.run(_compare(tables.connection, log, cuts, copy_from))


def test_a_conversation_in_one_batch_is_the_conversation_one_by_one(tables: Tables) -> None:
    log = ChatLog()
    log.open()
    conversation(log)
    tables.runner.run(_compare(tables.connection, log, set(), 0))


def _folded_apart(log: ChatLog, table: Table) -> list[Row]:
    """Return the rows of the verifier's fold of a log, which is independent of the projector."""
    with open_scratch(ROWS_SCHEMA) as scratch:
        fold, search = LogFold(scratch, log.partition), SearchFold(scratch)
        for event in LogCursor(compiled=False).read(log.events):
            if isinstance(event, Decided):
                fold.apply(event.stamp, event.outcome)
                search.apply(event.outcome)
        fold.finish()
        return sorted(fold.rows(table, 0), key=repr)


async def _in_tables(postgres: PostgresSettings, table: Table) -> list[Row]:
    async with open_snapshot(postgres, None) as tables:
        return sorted([row async for page in tables.rows(table) for row in page], key=repr)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=actions, cut=st.integers(0, 200))
def test_the_verifiers_own_fold_finds_the_rows_that_the_projector_wrote(
    tables: Tables, steps: list[Action], cut: int
) -> None:
    log = ChatLog()
    History(log).run(steps)
    at = 1 + cut % len(log.events)

    async def write() -> None:
        await empty(tables.connection, 1)
        for batch in (log.events[:at], log.events[at:]):
            if batch:
                await write_records(tables.connection, 1, batch)
                await write_search_records(tables.connection, 1, batch)

    tables.runner.run(write())
    for table in TABLES:
        assert tables.runner.run(_in_tables(tables.postgres, table)) == _folded_apart(log, table), table.name
