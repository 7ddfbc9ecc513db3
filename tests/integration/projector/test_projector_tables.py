"""Direct uses of the database: the functions of schema chat, the indexes, and the pruning of outcomes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.bodies import MessageSend
from schemas.errors import Reason
from schemas.ids import UserId
from schemas.types import CommandType
from services.ops.verify.projection.tables import TABLES
from services.projector.following.prune import PIECE, prune
from services.projector.mapping.decode import instant
from services.projector.mapping.deletions import SPANS, blocks_deleted
from services.projector.mapping.lookups import LookedUp
from services.projector.mapping.rows import changes_of
from services.projector.mapping.tables import ROW_TYPES, RowChanges
from services.projector.mapping.validity import classify_records
from services.projector.versions.migrations import migrate
from services.projector.writing.apply import apply_sql, load_position, write_batch
from services.projector.writing.columns import column_types
from services.projector.writing.guard import Move
from services.runtime.postgres.pool import Connection, connect
from tests.support.chat_log import ANNA, BEN, CARL, ChatLog
from tests.support.projection import TOPIC_ID, postgres_of, write_changes, write_records
from tests.support.record_batches import as_read

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def tables(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(postgres_of(dsn), application_name="test", autocommit=True)
    try:
        await migrate(connection)
        yield connection
    finally:
        await connection.close()


async def test_the_functions_answer_from_the_version_that_serves(database: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    for n in range(10):
        log.send(chat, ANNA if n % 2 else BEN, f"text {n}")
    log.read(chat, BEN, 4)
    log.add(chat, ANNA, CARL)
    log.remove(chat, CARL, CARL)
    async with tables(database) as connection:
        await write_records(connection, 1, log.events)

        async def unread(user: UserId) -> object:
            row = await (await connection.execute("SELECT chat.get_unread_count(%s, %s)", [chat, user])).fetchone()
            return row and row[0]

        assert await unread(ANNA) == 5
        assert await unread(BEN) == 3  # of 5 to 10, three are Anna's
        assert await unread(CARL) is None  # gone
        latest = await (await connection.execute("SELECT chat.get_latest_seq(%s)", [chat])).fetchone()
        assert latest == (10,)
        page = await (await connection.execute("SELECT seq FROM chat.get_messages(%s, 8, 3)", [chat])).fetchall()
        assert [seq for (seq,) in page] == [5, 6, 7]
        newest = await (await connection.execute("SELECT message_text FROM chat.get_messages(%s)", [chat])).fetchall()
        assert [text for (text,) in newest] == [f"text {n}" for n in range(10)]


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_every_plain_text_comes_back_as_it_went_in(database: str, copy_from: int) -> None:
    texts = [
        "💬 emoji",
        "tab\tnew\nline\\N",
        'a "quote"/\b\f\r',
        "e\u0301 not composed",
        "x" * 16_384,
        "\x7f",
        "é" * 9_000,
    ]
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    sent = [log.send(chat, ANNA, text) for text in texts]
    async with tables(database) as connection:
        await write_records(connection, 1, as_read(log.events), copy_from=copy_from)
        messages = await (
            await connection.execute(
                "SELECT message_text, message_id::text, sender_id::text, client_generated_id, media_urls, sent_at,"
                " position FROM chat.chat_messages ORDER BY seq"
            )
        ).fetchall()
        outcomes = await (
            await connection.execute("SELECT command_id::text, type, outcome, seq, at FROM chat.outcomes WHERE seq > 0")
        ).fetchall()
    assert messages == [
        (text, each.id, ANNA, each.command.client_generated_id, [], instant(each.at_ms), each.position)
        for text, each in zip(texts, sent, strict=True)
    ]
    assert outcomes == [(each.id, "message.send.v1", "accepted", each.seq, instant(each.at_ms)) for each in sent]


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_every_kind_of_text_and_metadata_comes_back_as_it_went_in(database: str, copy_from: int) -> None:
    texts = ["\u0001 control", "💬 emoji", "tab\tnew\nline\\N", "e\u0301 not composed", "x" * 16_384, ""]
    metadata = [
        {},
        {"k": 1e21, "small": 5e-324},
        {"k": -0.0, "Ключ": ["é", None, True]},
        {"n": 2**53 - 1},
        {"deep": [[[[]]]]},
        {"of": "media alone"},
    ]
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    for text, value in zip(texts, metadata, strict=True):
        log.send(chat, ANNA, text, metadata=value, media_urls=[f'https://a.example/{"{"}a,b"c{"}"}'])
    async with tables(database) as connection:
        await write_records(connection, 1, log.events, copy_from=copy_from)
        rows = await (
            await connection.execute("SELECT message_text, metadata, media_urls FROM chat.chat_messages ORDER BY seq")
        ).fetchall()
    assert [text for text, _, _ in rows] == texts
    assert [value for _, value, _ in rows] == metadata
    assert {tuple(urls) for _, _, urls in rows} == {('https://a.example/{a,b"c}',)}


INSERT_BEFORE_DETAILS = (
    "INSERT INTO chat_v1.outcomes (partition, index, command_id, sender_id, type, outcome, reason, seq, position, at)"
    " VALUES (0, %s, gen_random_uuid(), NULL, NULL, %s, %s, NULL, NULL, now())"
)
"""The statement with which releases before the column `detail` stored an outcome."""


async def _details(connection: Connection, table: str) -> list[str | None]:
    rows = await (await connection.execute(f"SELECT detail FROM {table} ORDER BY index".encode())).fetchall()
    return [detail for (detail,) in rows]


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_a_rejection_is_stored_with_its_detail(database: str, copy_from: int) -> None:
    details = ['a "quote", a \\ and an é', "the chat's last seq is 7", "x" * 2_000]
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    for detail in details:
        log.reject(log.command(CommandType.MESSAGE_SEND, chat, CARL, MessageSend(text="no")), Reason.INVALID, detail)
        log.send(chat, ANNA, "a plain message between them")
    async with tables(database) as connection:
        await write_records(connection, 1, as_read(log.events), copy_from=copy_from)
        told = await _details(connection, "chat.outcomes")
    assert told == [None, details[0], None, details[1], None, details[2], None]


async def test_an_outcome_written_by_a_release_without_details_claims_none(database: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.reject(log.command(CommandType.MESSAGE_SEND, chat, CARL, MessageSend(text="no")), Reason.INVALID, "too new")
    async with tables(database) as connection:
        await connection.execute("DROP VIEW chat.outcomes")
        await connection.execute("ALTER TABLE chat_v1.outcomes DROP COLUMN detail")
        await connection.execute("DELETE FROM chat.schema_migrations WHERE scope = 'chat_v1/tables' AND number = 4")
        await connection.execute(INSERT_BEFORE_DETAILS, [-4, "rejected", "forbidden"])
        await connection.execute(INSERT_BEFORE_DETAILS, [-3, "unchanged", None])
        await migrate(connection)
        await connection.execute(INSERT_BEFORE_DETAILS, [-2, "rejected", "forbidden"])  # the old statement still works
        await connection.execute(INSERT_BEFORE_DETAILS, [-1, "unchanged", None])
        await write_records(connection, 1, log.events)
        assert await _details(connection, "chat_v1.outcomes") == ["", "", "", "", None, "too new"]
        assert await _details(connection, "chat.outcomes") == [None, None, None, None, None, "too new"]


@pytest.mark.parametrize(
    ("scope", "number", "first", "then"),
    [
        ("tables", 7, "chat_participants", "chat_messages"),
        ("tables", 9, "chat_messages", "chats"),
        ("indexes", 8, "outcomes", "chats"),  # alters no table, but then all views
    ],
)
async def test_a_migration_waits_for_a_reader_that_goes_on_to_another_table(
    database: str, scope: str, number: int, first: str, then: str
) -> None:
    async with tables(database) as connection, tables(database) as reader:
        await _forget(connection, scope, number)
        async with reader.transaction():
            await reader.execute("LOCK TABLE chat.active_projection IN ACCESS SHARE MODE")
            await reader.execute(f"SELECT count(*) FROM chat.{first}".encode())
            migrating = asyncio.create_task(migrate(connection))
            await _until_waiting(connection, reader)
            await reader.execute(f"SELECT count(*) FROM chat.{then}".encode())
        await migrating


@pytest.mark.parametrize(
    ("number", "position", "then"),
    [(7, "projection_positions", "chat_messages"), (9, "search_positions", "message_search")],
)
async def test_a_migration_waits_for_a_feeder_that_goes_on_to_another_table(
    database: str, number: int, position: str, then: str
) -> None:
    async with tables(database) as connection, tables(database) as feeder:
        await _forget(connection, "tables", number)
        async with feeder.transaction():
            await feeder.execute(f"SELECT FROM chat_v1.{position} FOR UPDATE".encode())
            migrating = asyncio.create_task(migrate(connection))
            await _until_waiting(connection, feeder)
            await feeder.execute(f"DELETE FROM chat_v1.{then}".encode())
        await migrating


async def _forget(connection: Connection, scope: str, number: int) -> None:
    """Let the next migration run a step again."""
    step = [f"chat_v1/{scope}", number]
    await connection.execute("DELETE FROM chat.schema_migrations WHERE scope = %s AND number = %s", step)


async def _until_waiting(waiting: Connection, other: Connection) -> None:
    """Return when one connection waits for a lock of the other, whose transaction asks."""
    pids = [waiting.info.backend_pid, other.info.backend_pid]
    async with asyncio.timeout(30):
        while await (await other.execute("SELECT 1 WHERE %s <> ALL (pg_blocking_pids(%s))", pids[::-1])).fetchall():
            await asyncio.sleep(0.02)


async def test_pruning_deletes_what_is_older_and_nothing_else_in_pieces(database: str) -> None:
    async with tables(database) as connection:
        await connection.execute(
            "INSERT INTO chat_v1.outcomes SELECT p, n, gen_random_uuid(), NULL, NULL, 'unchanged', NULL, NULL, NULL,"
            " to_timestamp(n) FROM generate_series(0, 1) p, generate_series(1, %s) n",
            [2 * PIECE + 100],
        )
        cutoff = instant((PIECE + 50) * 1000)
        assert await prune(connection, 1, 0, cutoff) == PIECE + 49
        assert await prune(connection, 1, 0, cutoff) == 0
        left = await (
            await connection.execute("SELECT partition, min(index), count(*) FROM chat.outcomes GROUP BY 1 ORDER BY 1")
        ).fetchall()
        assert left == [(0, PIECE + 50, PIECE + 51), (1, 1, 2 * PIECE + 100)]


async def test_a_projector_whose_clock_is_years_ahead_deletes_no_outcome_that_is_young_in_the_log(
    database: str,
) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops")
    log.send(chat, ANNA, "young")
    async with tables(database) as connection:
        await write_records(connection, 1, log.events)
        in_ten_years = datetime.now(UTC) + timedelta(days=3_650)
        assert await prune(connection, 1, 0, in_ten_years) == 0
        rows = await (await connection.execute("SELECT count(*) FROM chat.outcomes")).fetchone()
        assert rows == (2,)


async def test_a_projection_has_the_indexes_of_the_read_model_and_no_others(database: str) -> None:
    async with tables(database) as connection:
        rows = await (
            await connection.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'chat_v1'")
        ).fetchall()
    found = sorted(re.split(" USING (?:btree |(?=gin))", text)[1].replace('"', "") for (text,) in rows)
    assert found == sorted(
        [
            "(chat_id)",
            "(chat_id, span, block)",
            "(chat_id, seq, emoji)",
            "(chat_id, seq, revision)",
            "(chat_id, last_reply_seq) WHERE (last_reply_seq IS NOT NULL)",
            "(chat_id, seq, emoji, user_id)",
            "(chat_id, user_id)",
            "(user_id, chat_id) WHERE (left_at IS NULL)",
            "(user_id, chat_id) WHERE (left_at IS NOT NULL)",
            "(chat_id, read_seq, user_id) WHERE (left_at IS NULL)",
            "(chat_id, GREATEST(read_seq, delivered_seq), user_id) WHERE (left_at IS NULL)",
            "(chat_id, joined_seq, user_id) WHERE (left_at IS NULL)",
            "(chat_id, seq)",
            "(message_id)",
            "(chat_id, sender_id, seq)",
            "(chat_id, root_seq, seq) WHERE (root_seq IS NOT NULL)",
            "(chat_id, changed_position)",
            "(partition, index)",
            "(command_id)",
            "(partition)",
            "(chat_id, seq)",
            "(partition)",
            "gin (tokens) WITH (fastupdate='on', gin_pending_list_limit='4096')",
        ]
    )


HIDDEN = {"last_record", "last_record_at"}
"""Columns that identify the record before a position; readers have no use for them."""


async def test_a_column_of_the_tables_is_shown_by_the_views_and_proven_by_the_verifier(database: str) -> None:
    """What a migration adds must also be in views.sql, and in the verifier's list of columns."""
    async with tables(database) as connection:

        async def columns(schema: str) -> dict[str, list[str]]:
            cursor = await connection.execute(
                "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
                " WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'v') AND attnum > 0"
                " ORDER BY attrelid, attnum",
                [schema],
            )
            found: dict[str, list[str]] = {}
            for relation, column in await cursor.fetchall():
                found.setdefault(relation, []).append(column)
            return found

        held, shown = await columns("chat_v1"), await columns("chat")
        for table, names in held.items():
            assert shown[table] == [name for name in names if name not in HIDDEN], table
        for proven in TABLES:
            assert list(proven.columns) == held[proven.name], proven.name
        assert held.keys() - {proven.name for proven in TABLES} == {"projection_positions", "search_positions"}


WRITTEN = {
    "chats_created": "chats",
    "participants_joined": "chat_participants",
    "messages": "chat_messages",
    "blocks_deleted": "deleted_blocks",
    "outcomes": "outcomes",
}
"""Row type that adds rows → its table."""


async def test_the_rows_that_are_added_have_the_columns_and_types_of_their_tables(database: str) -> None:
    async with tables(database) as connection:
        for name, table in WRITTEN.items():
            cursor = await connection.execute(
                "SELECT attname, replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz')"
                " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
                [f"chat_v1.{table}"],
            )
            held = dict(await cursor.fetchall())
            written = column_types(ROW_TYPES[name])
            assert written.items() <= held.items(), name
            assert [column for column in held if column in written] == list(written), f"{name}: the order of the table"


async def test_an_unread_count_leaves_deleted_messages_out_and_counts_an_own_one_once(database: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN, CARL])
    for n in range(1, 601):
        log.send(chat, (ANNA, BEN, BEN)[n % 3], f"text {n}")
    log.read(chat, BEN, 300)
    # One below Ben's cursor and his own; one that is not; above it two of others, two of his own.
    for seq in (2, 3, 303, 511, 512, 600):
        log.delete(chat, ANNA, seq)
    async with tables(database) as connection:
        for at in range(0, len(log.events), 97):
            await write_records(connection, 1, log.events[at : at + 97])
        log.delete(chat, ANNA, 302)  # another of Ben's, in a separate batch
        await write_records(connection, 1, log.events[-1:])
        found = {}
        for user in (ANNA, BEN, CARL):
            row = await (await connection.execute("SELECT chat.get_unread_count(%s, %s)", [chat, user])).fetchone()
            found[user] = row and row[0]
        assert found == {ANNA: 400 - 4, BEN: 100 - 2, CARL: 600 - 7}
        gone = await (
            await connection.execute(
                "SELECT seq, message_text, media_urls, metadata, deleted_at IS NULL FROM chat.chat_messages"
                " WHERE message_text IS NULL ORDER BY seq"
            )
        ).fetchall()
        assert gone == [(seq, None, [], None, False) for seq in (2, 3, 302, 303, 511, 512, 600)]
        total = await (await connection.execute("SELECT deleted_total, last_seq FROM chat.chats")).fetchall()
        assert total == [(7, 600)]


@pytest.mark.parametrize("copy_from", [0, 1_000])
async def test_an_edit_rewrites_what_it_names_however_batches_are_cut_and_makes_nothing_unread(
    database: str, copy_from: int
) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA, "one", media_urls=["https://a.example/1"], metadata={"k": 1})
    log.send(chat, ANNA, "two")
    log.read(chat, BEN, 2)
    before = len(log.events)
    log.edit(chat, ANNA, 1, "one, edited", media_urls=[])
    log.send(chat, ANNA, "three")
    log.edit(chat, ANNA, 3, "three, edited", media_urls=['https://a.example/\u00e4,"}'], metadata={"k": "\u2028"})
    log.edit(chat, ANNA, 2, "two, edited")
    last = log.edit(chat, ANNA, 1, "one, edited again")
    log.delete(chat, ANNA, 2)
    async with tables(database) as connection:
        await write_records(connection, 1, log.events[:before], copy_from=copy_from)
        await write_records(connection, 1, log.events[before:], copy_from=copy_from)
        found = await (
            await connection.execute(
                "SELECT seq, message_text, media_urls, metadata, revision, edited_at IS NULL, changed_position"
                " FROM chat.chat_messages ORDER BY seq"
            )
        ).fetchall()
        assert last.position is not None
        assert found == [
            (1, "one, edited again", [], {"k": 1}, 2, False, last.position),
            (2, None, [], None, 1, False, last.position + 1),
            (3, "three, edited", ['https://a.example/\u00e4,"}'], {"k": "\u2028"}, 1, False, last.position - 2),
        ]
        unread = await (await connection.execute("SELECT chat.get_unread_count(%s, %s)", [chat, BEN])).fetchone()
        assert unread == (1,)


SEQS = st.one_of(
    st.integers(1, 600),
    st.integers(1, 5_000_000),
    st.builds(
        lambda span, times, beside: max(1, span * times + beside),
        st.sampled_from(SPANS),
        st.integers(0, 20),
        st.integers(-1, 1),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.sets(SEQS, min_size=1, max_size=40), min_size=1, max_size=4),
    asked=st.lists(SEQS, min_size=1, max_size=10),
)
def test_what_is_deleted_above_a_seq_is_what_counting_gives(
    database: str, batches: list[set[int]], asked: list[int]
) -> None:
    """Millions of messages, most of them never sent: the blocks know only those that were deleted."""
    chat, other = (ids.group_chat_id(ANNA, name) for name in ("ops", "other"))
    gone: set[int] = set()

    async def check() -> None:
        async with tables(database) as connection:
            await connection.execute("DELETE FROM chat_v1.deleted_blocks")
            for chat_id in (chat, other):
                await connection.execute(
                    "INSERT INTO chat_v1.chats VALUES (%s, 'group', 'x', %s, now(), 0, 1, NULL) ON CONFLICT DO NOTHING",
                    [chat_id, ANNA],
                )
            for batch in batches:
                fresh = batch - gone
                gone.update(fresh)
                if fresh:
                    rows = blocks_deleted([*((chat, seq) for seq in fresh), *((other, seq + 1) for seq in fresh)])
                    await write_changes(connection, 1, RowChanges(blocks_deleted=rows))
            for seq in (0, *asked, *sorted(gone)[:5]):
                row = await (await connection.execute("SELECT chat.deleted_after(%s, %s)", [chat, seq])).fetchone()
                assert row == (len([deleted for deleted in gone if deleted > seq]),), seq

    asyncio.run(check())


class _Watched(dict[str, object]):
    """The statements of a version, which records the names of those that are used."""

    def __init__(self) -> None:
        super().__init__(apply_sql(1))
        self.sent: set[str] = set()

    def __getitem__(self, name: str) -> object:
        self.sent.add(name)
        return super().__getitem__(name)


async def test_a_batch_sends_the_statements_that_it_needs_and_no_others(database: str) -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA)
    async with tables(database) as connection:
        await write_records(connection, 1, log.events)
        plain = [log.send(chat, BEN), log.read(chat, ANNA, 1)]
        assert await _sent(connection, log, len(plain)) == {
            "by_key", "advance", "participants_moved", "chats_moved", "insert_message", "insert_outcome",
        }  # fmt: skip
        log.delete(chat, ANNA, 1)
        assert await _sent(connection, log, 1) == {
            "by_key", "advance", "chats_moved", "own_deleted", "reactions_of_deleted", "counts_of_deleted",
            "texts_of_deleted", "messages_deleted", "threads_of_deleted", "chats_deleted", "blocks_deleted",
            "insert_outcome",
        }  # fmt: skip


async def _sent(connection: Connection, log: ChatLog, last: int) -> set[str]:
    """Return the statements that write the last records of the log."""
    watched = _Watched()
    _, start = await load_position(connection, apply_sql(1), partition=0, topic_id=TOPIC_ID)
    classified = classify_records(start, log.events[-last:], read_up_to=len(log.events))
    changes = changes_of(classified.events, LookedUp(), partition=0, outcomes_since_ms=0)
    move = Move(partition=0, topic_id=TOPIC_ID, start=start, end=classified.end)
    await write_batch(connection, watched, move, changes)  # type: ignore[arg-type]
    return watched.sent


async def test_unread_reads_a_handful_of_rows_beside_half_a_million_deleted_messages(database: str) -> None:
    chat = ids.group_chat_id(ANNA, "ops")
    async with tables(database) as connection:
        await connection.execute(
            "INSERT INTO chat_v1.chats VALUES (%s, 'group', 'x', %s, now(), 1000000, 1, NULL, 500000)", [chat, ANNA]
        )
        await connection.execute(
            "INSERT INTO chat_v1.chat_participants VALUES (%s, %s, 'owner', now(), 0, NULL, 0, NULL, 0, 0, 1)",
            [chat, ANNA],
        )
        rows = blocks_deleted((chat, seq) for seq in range(1, 1_000_001, 2))
        await write_changes(connection, 1, RowChanges(blocks_deleted=rows))
        for read_seq in (0, 255, 300_000, 999_990):
            await connection.execute("UPDATE chat_v1.chat_participants SET read_seq = %s", [read_seq])
            before = await _rows_read(connection)
            unread = "SELECT chat.get_unread_count(%s, %s)"
            row = await (await connection.execute(unread, [chat, ANNA])).fetchone()
            assert row == (500_000 - read_seq // 2,)
            assert await _rows_read(connection) - before <= 48


async def _rows_read(connection: Connection) -> int:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await connection.execute(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
            " WHERE schemaname = 'chat_v1'"
        )
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_mark_and_a_reply_cost_the_same_in_a_large_chat(database: str) -> None:
    """The statements are planned while the tables are nearly empty, and without statistics."""
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    async with tables(database) as connection:

        async def written() -> None:
            await write_records(connection, 1, log.events[done:])

        async def rows_read() -> int:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            row = await (
                await connection.execute(
                    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
                    " WHERE relname IN ('chat_participants', 'chat_messages') AND schemaname = 'chat_v1'"
                )
            ).fetchone()
            assert row is not None
            return int(row[0])

        done = 0
        for n in range(1, 13):  # psycopg prepares at the fifth, Postgres fixes its plan five later
            first = log.send(chat, ANNA, f"text {n}")
            log.send(chat, BEN, "a reply", reply_to_message_id=first.id)
            log.read(chat, BEN, 2 * n)
            await written()
            done = len(log.events)
        for n in range(1_000):
            log.add(chat, ANNA, UserId(f"00000000-0000-4000-8000-{n:012x}"))
            log.send(chat, ANNA, f"more {n}")
        await written()
        done = len(log.events)
        before = await rows_read()
        for n in range(20):
            root = log.send(chat, ANNA, f"last {n}")
            log.send(chat, BEN, "a reply", reply_to_message_id=root.id)
            log.read(chat, UserId(f"00000000-0000-4000-8000-{n:012x}"), 1_000)
            await written()
            done = len(log.events)
        assert await rows_read() - before < 20 * 20, "each of sixty changes looks at a handful of rows"
