"""`projection verify` on real servers: equal if the projector was right, and every planted damage is named."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from schemas.errors import Reason
from schemas.ids import ChatId
from services.ops.errors import UsageError
from services.ops.verify.projection.diff import Difference, Kind
from services.ops.verify.projection.snapshot import KEEP_OUTCOMES_S
from services.ops.verify.projection.tables import CHATS, MESSAGES, PARTICIPANTS, TABLES, Table
from services.ops.verify.projection.verify import ProjectionReport, verify_projection
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import HISTORY, SEARCH, Feed
from services.projector.mapping import receipts
from services.projector.mapping.builder import Accepted, MemberState, RowBuilder
from services.projector.mapping.decode import ChangeEvent
from services.projector.versions.migrations import migrate
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, CARL, ChatLog, conversation
from tests.support.projection import WHAT, Action, History
from tests.support.proving import (
    append,
    copy_of,
    create_log,
    drop_constraints,
    execute,
    feed_to_end,
    kafka_settings,
    postgres_settings,
    project,
    write_log,
)
from tests.support.stack import fresh_database


def verify(kafka: KafkaSettings, dsn: str, **options: object) -> ProjectionReport:
    return asyncio.run(verify_projection(kafka, postgres_settings(dsn), **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log() -> ChatLog:
    log = ChatLog()
    log.open()
    conversation(log)
    log.create_direct(ANNA, BEN)
    return log


@pytest.fixture(scope="module")
def settings(kafka: str, log: ChatLog) -> KafkaSettings:
    settings = kafka_settings(kafka)
    asyncio.run(write_log(settings, log))
    return settings


@pytest.fixture(scope="module")
def original(settings: KafkaSettings, postgres: str) -> Iterator[str]:
    """Yield the log's projection, created once."""
    with fresh_database(postgres) as dsn:
        asyncio.run(project(settings, postgres_settings(dsn)))
        yield dsn


@pytest.fixture
def projected(original: str) -> Iterator[str]:
    """Yield a copy of it, for one test to damage."""
    with copy_of(original) as dsn:
        yield dsn


@pytest.fixture
def damaged(projected: str) -> str:
    """Return the same, without the constraints that would refuse damage."""
    drop_constraints(projected)
    return projected


def only(report: ProjectionReport) -> Difference:
    assert report.difference_count == 1, report.differences
    assert not report.equal
    return report.differences[0]


def test_a_projection_of_the_projector_is_what_the_log_says(
    settings: KafkaSettings, projected: str, log: ChatLog
) -> None:
    report = verify(settings, projected)
    assert report.differences == []
    assert report.faults == []
    assert report.version == "v1"
    assert report.positions[0].next_offset == len(log.events)
    for table in TABLES:
        assert report.held[table.name].rows > 0
        assert report.log[table.name] == report.held[table.name]


WRONG = {
    "uuid": "gen_random_uuid()",
    "text": "'other'",
    "timestamp with time zone": "now()",
    "bigint": "77",
    "integer": "77",
    "text[]": "ARRAY['other']",
    "jsonb": "'{\"other\": 1}'",
    "bit": "repeat('1', 256)::bit(256)",
    "tsvector": "array_to_tsvector(ARRAY['other'])",
}
"""Type → a value that no row of the log has."""
COLUMNS = [(table, column) for table in TABLES for column in table.columns[table.key_columns :]]


def first_row(table: Table) -> str:
    keys = ", ".join(f'"{column}"' for column in table.key)
    return f"ctid = (SELECT ctid FROM chat_v1.{table.name} ORDER BY {keys} LIMIT 1)"


def type_of(dsn: str, table: Table, column: str) -> str:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
            [f"chat_v1.{table.name}", column],
        ).fetchone()
    assert found is not None
    return str(found[0])


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda v: getattr(v, "name", v))
def test_a_changed_value_in_any_column_is_named(
    settings: KafkaSettings, damaged: str, table: Table, column: str
) -> None:
    wrong = WRONG[type_of(damaged, table, column)]
    touched = execute(damaged, f'UPDATE chat_v1.{table.name} SET "{column}" = {wrong} WHERE {first_row(table)}')
    assert touched == 1
    found = only(verify(settings, damaged))
    assert (found.table, found.kind, found.column) == (table.name, Kind.CHANGED, column)
    assert found.log != found.held


def test_the_detail_is_compared_unless_an_older_release_wrote_the_row(settings: KafkaSettings, projected: str) -> None:
    """An older release leaves the default of the column in every row."""
    execute(projected, "UPDATE chat_v1.outcomes SET detail = DEFAULT")
    report = verify(settings, projected)
    assert (report.differences, report.log["outcomes"]) == ([], report.held["outcomes"])
    first = "(SELECT min(index) FROM chat_v1.outcomes WHERE outcome = 'rejected')"
    execute(projected, f"UPDATE chat_v1.outcomes SET detail = NULL WHERE index = {first}")
    found = only(verify(settings, projected))
    assert (found.table, found.column, found.log, found.held) == ("outcomes", "detail", "because", None)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_missing_row_is_named(settings: KafkaSettings, damaged: str, table: Table) -> None:
    execute(damaged, f"DELETE FROM chat_v1.{table.name} WHERE {first_row(table)}")
    found = only(verify(settings, damaged))
    assert (found.table, found.kind, found.column, found.held) == (table.name, Kind.MISSING, None, "no such row")


@pytest.mark.parametrize("table", [CHATS, PARTICIPANTS, MESSAGES], ids=lambda table: table.name)
def test_an_extra_row_of_a_chat_that_the_log_does_not_know_is_named(
    settings: KafkaSettings, damaged: str, table: Table
) -> None:
    stranger = str(uuid4())
    columns = ", ".join(table.columns[1:])
    execute(
        damaged,
        f"INSERT INTO chat_v1.{table.name} (chat_id, {columns}) SELECT %s, {columns} FROM chat_v1.{table.name} LIMIT 1",
        stranger,
    )
    found = only(verify(settings, damaged))
    assert (found.table, found.kind, dict(found.key)["chat_id"]) == (table.name, Kind.EXTRA, stranger)


def test_an_extra_message_behind_the_last_one_is_named(settings: KafkaSettings, damaged: str) -> None:
    columns = ", ".join(f'"{column}"' for column in MESSAGES.columns[2:])
    execute(
        damaged,
        f"INSERT INTO chat_v1.chat_messages (chat_id, seq, {columns})"
        f" SELECT chat_id, 1000, {columns} FROM chat_v1.chat_messages ORDER BY chat_id, seq LIMIT 1",
    )
    found = only(verify(settings, damaged))
    assert (found.table, found.kind, dict(found.key)["seq"]) == ("chat_messages", Kind.EXTRA, 1000)


def test_a_row_held_twice_is_named_though_its_constraint_is_gone(settings: KafkaSettings, damaged: str) -> None:
    execute(
        damaged, "INSERT INTO chat_v1.chat_messages SELECT * FROM chat_v1.chat_messages ORDER BY chat_id, seq LIMIT 1"
    )
    found = only(verify(settings, damaged))
    assert (found.table, found.kind, dict(found.key)["seq"]) == ("chat_messages", Kind.EXTRA, 1)


def test_two_messages_that_changed_places_are_named(settings: KafkaSettings, damaged: str) -> None:
    """The sum of all texts stays the same; only a digest over whole rows shows it."""
    execute(
        damaged,
        "UPDATE chat_v1.chat_messages m SET message_text = o.message_text FROM chat_v1.chat_messages o"
        " WHERE m.chat_id = o.chat_id AND (m.seq, o.seq) IN ((1, 2), (2, 1))",
    )
    report = verify(settings, damaged)
    assert [(d.column, dict(d.key)["seq"]) for d in report.differences] == [("message_text", 1), ("message_text", 2)]


@pytest.mark.parametrize(
    ("column", "wrong"),
    [("term", "9"), ("index", '"index" - 1'), ("command_offset", "command_offset - 1"),
     ("last_timestamp_ms", "last_timestamp_ms + 1"), ("topic_id", "'another'")],
)  # fmt: skip
def test_a_wrong_head_is_named(settings: KafkaSettings, projected: str, column: str, wrong: str) -> None:
    execute(projected, f'UPDATE chat_v1.projection_positions SET "{column}" = {wrong}')
    found = only(verify(settings, projected))
    assert (found.table, found.column, found.key) == ("projection_positions", column, (("partition", 0),))


def test_a_position_that_claims_more_than_it_applied_shows_what_is_missing(
    settings: KafkaSettings, projected: str, log: ChatLog
) -> None:
    execute(projected, "UPDATE chat_v1.projection_positions SET next_offset = next_offset - 3")
    report = verify(settings, projected)
    assert {d.table for d in report.differences} >= {"projection_positions", "outcomes"}


def test_a_position_beyond_the_end_of_the_log_is_named(settings: KafkaSettings, projected: str, log: ChatLog) -> None:
    execute(projected, "UPDATE chat_v1.projection_positions SET next_offset = next_offset + 5")
    found = only(verify(settings, projected))
    assert (found.column, found.log, found.held) == ("next_offset", len(log.events), len(log.events) + 5)


def test_rows_without_any_position_are_extra(settings: KafkaSettings, projected: str) -> None:
    for table in ("projection_positions", "search_positions"):
        execute(projected, f"DELETE FROM chat_v1.{table}")
    report = verify(settings, projected)
    assert {difference.kind for difference in report.differences} == {Kind.EXTRA}
    assert report.difference_count == sum(digest.rows for digest in report.held.values())


@pytest.mark.parametrize("feeds", [(HISTORY,), (SEARCH,), (SEARCH, HISTORY)])
def test_tables_and_search_are_each_verified_up_to_their_own_position(
    settings: KafkaSettings, database: str, log: ChatLog, feeds: tuple[Feed, ...]
) -> None:
    async def feed() -> None:
        async with open_pool(postgres_settings(database), application_name="test", autocommit=True) as pool:
            async with pool.connection() as connection:
                await migrate(connection)
            await feed_to_end(settings, pool, 0, feeds=feeds[:1])
            for each in feeds[1:]:
                consumer = PartitionConsumer(
                    version=1, partition=0, pool=pool, kafka=settings, topic=TopicId(settings), feed=each
                )
                await consumer.open()
                await consumer.step(max_records=9, timeout_s=10.0)
                await consumer.close()

    asyncio.run(feed())
    report = verify(settings, database)
    assert (report.differences, report.faults) == ([], [])
    assert (report.held["message_search"].rows > 0) == (SEARCH in feeds)
    assert (report.held["chat_messages"].rows > 0) == (HISTORY in feeds)
    if SEARCH in feeds:
        execute(database, "UPDATE chat_v1.search_positions SET index = index + 1")
        found = only(verify(settings, database))
        assert (found.table, found.column) == ("search_positions", "index")


def test_all_differences_are_counted_though_only_some_are_named(settings: KafkaSettings, projected: str) -> None:
    execute(projected, "UPDATE chat_v1.chat_messages SET message_text = 'all the same'")
    report = verify(settings, projected, limit=2)
    assert len(report.differences) == 2
    assert report.difference_count == report.held["chat_messages"].rows


def test_a_projection_that_is_not_there_is_refused_with_those_that_are(settings: KafkaSettings, projected: str) -> None:
    with pytest.raises(UsageError, match=r"no projection v9; there are: v1"):
        verify(settings, projected, version="v9")


def test_no_projection_at_all_is_refused(settings: KafkaSettings, database: str) -> None:
    with pytest.raises(UsageError, match="No projection is served"):
        verify(settings, database)


def test_a_wrong_number_of_partitions_is_refused(settings: KafkaSettings, projected: str) -> None:
    with pytest.raises(UsageError, match="GAPLESS_KAFKA_PARTITIONS"):
        verify(settings.model_copy(update={"partitions": 2}), projected)


def test_a_broken_mapping_of_the_projector_is_reported(
    settings: KafkaSettings, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the projector's own functions must not be in the verifier too."""
    original = receipts._moved

    def off_by_one(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> tuple[MemberState, int]:
        member, up_to_seq = original(builder, accepted)
        return member, up_to_seq - 1

    monkeypatch.setattr(receipts, "_moved", off_by_one)
    asyncio.run(project(settings, postgres_settings(database)))
    report = verify(settings, database)
    assert {difference.column for difference in report.differences} >= {"read_seq", "delivered_seq"}


def test_a_corrupt_partition_is_a_fault_and_its_rows_are_not_called_extra(kafka: str, database: str) -> None:
    settings = kafka_settings(kafka, partitions=2)
    logs = [ChatLog(partition=partition, partitions=2) for partition in (0, 1)]
    for log in logs:
        log.open()
        conversation(log)

    async def scenario() -> ProjectionReport:
        names = await write_log(settings, *logs)
        await project(settings, postgres_settings(database))
        logs[0].index += 5
        offset = len(logs[0].events)
        logs[0].send(logs[0].create(ANNA, "after a gap"), ANNA)
        await append(settings, names.events, 0, logs[0].events[offset:])
        execute(database, "UPDATE chat_v1.projection_positions SET next_offset = next_offset + 1 WHERE partition = 0")
        return await verify_projection(settings, postgres_settings(database))

    report = asyncio.run(scenario())
    assert not report.equal
    assert report.difference_count == 0
    [fault] = report.faults
    assert "chat.events-0" in fault
    assert "cannot follow" in fault


def test_outcomes_past_their_keep_time_may_be_there_or_not(kafka: str, database: str) -> None:
    old = ChatLog(at_ms=1_600_000_000_000)
    old.open()
    chat = old.create(ANNA, "ops", [BEN])
    sent = old.send(chat, ANNA)
    settings = kafka_settings(kafka)
    asyncio.run(write_log(settings, old))
    asyncio.run(project(settings, postgres_settings(database)))
    report = verify(settings, database)
    assert report.equal
    assert report.log["outcomes"].rows == 0
    assert report.held["chat_messages"].rows == 1
    execute(
        database,
        "INSERT INTO chat_v1.outcomes (partition, index, command_id, type, outcome, at)"
        " VALUES (0, 2, %s, 'message.send.v1', 'accepted', now() - make_interval(secs => %s))",
        sent.id,
        KEEP_OUTCOMES_S + 60,
    )
    assert verify(settings, database).equal


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_folds_written_apart_agree_on_random_histories(kafka: str, database: str, seed: int) -> None:
    """The projector's merged batches and the verifier's plain statements, on random histories."""
    chance = random.Random(seed)
    settings = kafka_settings(kafka)
    history = History()
    history.run([Action(chance.choice(WHAT), *(chance.randrange(1_000) for _ in range(3))) for _ in range(800)])
    asyncio.run(write_log(settings, history.log))
    asyncio.run(project(settings, postgres_settings(database), max_records=chance.randrange(1, 50)))
    report = verify(settings, database)
    assert report.differences == []
    assert report.equal
    assert report.log["chat_messages"].rows > 100


def test_it_holds_at_every_moment_while_the_projector_goes_on(kafka: str, database: str) -> None:
    settings, postgres = kafka_settings(kafka), postgres_settings(database)
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN, CARL])

    async def scenario() -> list[ProjectionReport]:
        names = await create_log(settings)
        async with open_pool(postgres, application_name="test", autocommit=True) as pool:
            async with pool.connection() as connection:
                await migrate(connection)
            done = asyncio.Event()
            going = asyncio.create_task(_go_on(settings, names.events, pool, log, chat, done))
            reports: list[ProjectionReport] = []
            while not going.done() and len({_offsets(report) for report in reports}) < 4:
                reports.append(await verify_projection(settings, postgres))
            done.set()
            await going
            reports.append(await verify_projection(settings, postgres))
            return reports

    reports = asyncio.run(scenario())
    assert [report.differences for report in reports] == [[]] * len(reports)
    assert len(set(map(_offsets, reports))) >= 4, "the projector did not go on meanwhile: nothing was shown"


def _offsets(report: ProjectionReport) -> int:
    return sum(p.next_offset for p in report.positions.values())


async def _go_on(
    settings: KafkaSettings, topic: str, pool: PostgresPool, log: ChatLog, chat: ChatId, done: asyncio.Event
) -> None:
    """Append and project until `done` is set."""
    sent = 0
    while not done.is_set():
        for n in range(20):
            first = log.send(chat, (ANNA, BEN)[n % 2])
            last = log.send(chat, CARL, reply_to_message_id=first.id)
        assert last.seq is not None
        log.read(chat, BEN, last.seq - 3)
        log.reject(log.command("nonsense", chat, BEN, b"{}"), Reason.UNKNOWN_TYPE)
        await append(settings, topic, 0, log.events[sent:])
        sent = len(log.events)
        await feed_to_end(settings, pool, 0, max_records=9)
